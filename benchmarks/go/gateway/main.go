// Command gateway is a gateway as a good engineer would write it in Go for one service: grpc-go, nats.go, JetStream,
// and the wire of docs/protocol.md, so that its worker may be one in Go or one of natsgate.
package main

import (
	"log"
	"os"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"example.com/benchmarks/internal/bytesrpc"
)

func main() {
	address, url := os.Args[1], os.Args[2]
	connection, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	requester, err := newRequester(connection)
	if err != nil {
		log.Fatal(err)
	}
	server := bytesrpc.NewServer(requester.unary)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	log.Fatal(bytesrpc.Serve(server, address))
}
