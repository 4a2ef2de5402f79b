// Command echo is what grpc-go alone costs: bytes in and bytes out, no NATS at all.
package main

import (
	"context"
	"io"
	"log"
	"os"

	"google.golang.org/grpc"

	"example.com/benchmarks/internal/bytesrpc"
	"example.com/benchmarks/internal/count"
)

const repeats = 1000 // as in echo.proto

func main() {
	handled, err := count.Open()
	if err != nil {
		log.Fatal(err)
	}
	unary := func(_ context.Context, request []byte) ([]byte, error) {
		handled.Add(1)
		return request, nil
	}
	repeat := func(_ any, stream grpc.ServerStream) error {
		handled.Add(1)
		return repeated(stream)
	}
	chat := func(_ any, stream grpc.ServerStream) error {
		handled.Add(1)
		return echoed(stream)
	}
	server := bytesrpc.NewServer(unary,
		grpc.StreamDesc{StreamName: "Repeat", Handler: repeat, ServerStreams: true},
		grpc.StreamDesc{StreamName: "Chat", Handler: chat, ServerStreams: true, ClientStreams: true})
	log.Fatal(bytesrpc.Serve(server, os.Args[1]))
}

func repeated(stream grpc.ServerStream) error {
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	for range repeats {
		if err := stream.SendMsg(request); err != nil {
			return err
		}
	}
	return nil
}

func echoed(stream grpc.ServerStream) error {
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(message); err != nil {
			return err
		}
	}
}
