// Command worker is a worker as a good engineer would write it in Go: it declares the queue as natsgate does, decodes
// the request, runs the handler, responds, then acknowledges.
package main

import (
	"context"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/benchmarks/internal/count"
)

const (
	service     = "bench.Echo"
	consumer    = "echo"
	perMethod   = 10_000
	dedupWindow = time.Minute
	ackWait     = 2 * time.Second
	fetched     = 256
)

func main() {
	connection, err := nats.Connect(os.Args[1], nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	handled, err := count.Open()
	if err != nil {
		log.Fatal(err)
	}
	echo := func(request *wrapperspb.BytesValue) *wrapperspb.BytesValue {
		handled.Add(1)
		return wrapperspb.Bytes(request.Value)
	}
	queue, err := declare(connection)
	if err != nil {
		log.Fatal(err)
	}
	run := func(message jetstream.Msg) { work(connection, message, echo) }
	if _, err := queue.Consume(run, jetstream.PullMaxMessages(fetched)); err != nil {
		log.Fatal(err)
	}
	select {}
}

func declare(connection *nats.Conn) (jetstream.Consumer, error) {
	js, err := jetstream.New(connection)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:                 "rpc=" + strings.ReplaceAll(service, ".", "="),
		Subjects:             []string{"rpc." + service + ".*"},
		Retention:            jetstream.WorkQueuePolicy,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		MaxMsgsPerSubject:    perMethod,
		Duplicates:           dedupWindow,
		AllowMsgTTL:          true,
		AllowDirect:          true,
	})
	if err != nil {
		return nil, err
	}
	return stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumer,
		FilterSubject: "rpc." + service + ".Unary",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1,
		MaxAckPending: perMethod,
	})
}

// work runs one event. bench.Packet has the shape of google.protobuf.BytesValue.
func work(connection *nats.Conn, message jetstream.Msg, echo func(*wrapperspb.BytesValue) *wrapperspb.BytesValue) {
	headers := message.Headers()
	reply := headers.Get("Natsgate-Reply")
	if deadline, err := strconv.ParseInt(headers.Get("Natsgate-Deadline"), 10, 64); err == nil &&
		time.Now().UnixMicro() > deadline || !strings.HasPrefix(reply, "_REPLY.") {
		message.Term() // nobody waits
		return
	}
	response := &nats.Msg{Subject: reply, Header: nats.Header{"grpc-status": {"0"}}}
	var request wrapperspb.BytesValue
	err := proto.Unmarshal(message.Data(), &request)
	if err == nil {
		response.Data, err = proto.Marshal(echo(&request))
	}
	if err != nil {
		response.Header = nats.Header{"grpc-status": {"13"}, "grpc-message": {err.Error()}}
	}
	if err := connection.PublishMsg(response); err != nil {
		log.Print(err)
		return // it is delivered again
	}
	message.Ack()
}
