package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	subject     = "rpc.bench.Echo.Unary"
	target      = "bench.Echo"
	maxTimeout  = 60 * time.Second
	maxInFlight = 10_000
	maxUnacked  = 16_384
	tokenBytes  = 16
)

// A requester publishes calls as events and hands their responses to who waits for them.
type requester struct {
	stream   jetstream.JetStream
	prefix   string
	inFlight atomic.Int64
	mutex    sync.Mutex
	waiting  map[string]chan *nats.Msg
}

func newRequester(connection *nats.Conn) (*requester, error) {
	stream, err := jetstream.New(connection, jetstream.WithPublishAsyncMaxPending(maxUnacked))
	if err != nil {
		return nil, err
	}
	inbox := "_REPLY." + newToken() + "."
	r := &requester{stream: stream, prefix: inbox + target + ".", waiting: make(map[string]chan *nats.Msg)}
	_, err = connection.Subscribe(inbox+">", r.deliver)
	return r, err
}

// unary answers one call: publish, wait for the response, and for the acknowledgement unless the response is faster.
func (r *requester) unary(ctx context.Context, request []byte) ([]byte, error) {
	if r.inFlight.Add(1) > maxInFlight {
		r.inFlight.Add(-1)
		return nil, status.Error(codes.ResourceExhausted, "too many calls are in flight")
	}
	defer r.inFlight.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, maxTimeout)
	defer cancel()
	token := newToken()
	response := r.expect(token)
	defer r.forget(token)
	acknowledged, err := r.stream.PublishMsgAsync(r.message(ctx, token, request))
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	select {
	case message := <-response:
		return read(message)
	case err := <-acknowledged.Err():
		return nil, status.Error(codes.Unavailable, err.Error())
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-acknowledged.Ok():
	}
	select {
	case message := <-response:
		return read(message)
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func (r *requester) message(ctx context.Context, token string, request []byte) *nats.Msg {
	deadline, _ := ctx.Deadline()
	message := nats.NewMsg(subject)
	message.Data = request
	header := message.Header
	header["Nats-Msg-Id"] = []string{subject + ":" + token}
	header["Nats-TTL"] = []string{strconv.Itoa(int(time.Until(deadline)/time.Second) + 1)}
	header["Natsgate-Reply"] = []string{r.prefix + token}
	header["Natsgate-Deadline"] = []string{strconv.FormatInt(deadline.UnixMicro(), 10)}
	received, _ := metadata.FromIncomingContext(ctx)
	for key, values := range received {
		if strings.HasPrefix(key, ":") || key == "content-type" || strings.HasPrefix(key, "grpc-") {
			continue
		}
		if strings.HasSuffix(key, "-bin") {
			values = encoded(values)
		}
		header["Grpc-Metadata-"+key] = values
	}
	return message
}

func (r *requester) expect(token string) <-chan *nats.Msg {
	response := make(chan *nats.Msg, 1)
	r.mutex.Lock()
	r.waiting[token] = response
	r.mutex.Unlock()
	return response
}

func (r *requester) forget(token string) {
	r.mutex.Lock()
	delete(r.waiting, token)
	r.mutex.Unlock()
}

// deliver takes whatever comes to the reply inbox.
func (r *requester) deliver(message *nats.Msg) {
	token := message.Subject[strings.LastIndexByte(message.Subject, '.')+1:]
	if message.Header["grpc-status"] == nil {
		return // no response: anybody may send anything there
	}
	r.mutex.Lock()
	response := r.waiting[token]
	delete(r.waiting, token)
	r.mutex.Unlock()
	if response != nil {
		response <- message
	}
}

func read(message *nats.Msg) ([]byte, error) {
	code, err := strconv.ParseUint(message.Header["grpc-status"][0], 10, 32)
	if err != nil {
		return nil, status.Error(codes.Unknown, "the response has no readable status")
	}
	if code == 0 {
		return message.Data, nil
	}
	text := ""
	if said := message.Header["grpc-message"]; said != nil {
		text = said[0]
	}
	return nil, status.Error(codes.Code(code), text)
}

func encoded(values []string) []string {
	found := make([]string, len(values))
	for i, value := range values {
		found[i] = base64.RawStdEncoding.EncodeToString([]byte(value))
	}
	return found
}

func newToken() string {
	var drawn [tokenBytes]byte
	rand.Read(drawn[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(drawn[:])
}
