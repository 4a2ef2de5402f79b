// Package bytesrpc serves bench.Echo without decoding a message, as a gateway does it.
package bytesrpc

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

const serviceName = "bench.Echo"

// Unary answers one call.
type Unary func(ctx context.Context, request []byte) ([]byte, error)

// codec hands messages through as they are.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(value any) (mem.BufferSlice, error) {
	message, ok := value.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not []byte", value)
	}
	return mem.BufferSlice{mem.SliceBuffer(message)}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, value any) error {
	message, ok := value.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not *[]byte", value)
	}
	*message = data.Materialize()
	return nil
}

// NewServer returns a server that answers bench.Echo: Unary with the handler, streaming calls with the streams.
func NewServer(unary Unary, streams ...grpc.StreamDesc) *grpc.Server {
	server := grpc.NewServer(grpc.ForceServerCodecV2(codec{}))
	method := func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var request []byte
		if err := decode(&request); err != nil {
			return nil, err
		}
		return unary(ctx, request)
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: method}},
		Streams:     streams,
	}, nil)
	return server
}

// Serve serves until the listener fails.
func Serve(server *grpc.Server, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}
