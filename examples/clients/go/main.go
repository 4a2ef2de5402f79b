// The four kinds of call, against demo.v1.Words.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "example.com/words-client/words"
)

const (
	text    = "to be or not to be"
	timeout = 10 * time.Second
)

var calls = []struct {
	name string
	call func(context.Context, pb.WordsClient) (string, error)
}{
	{"Count", count}, {"Lookup", lookup}, {"Split", split}, {"Join", join}, {"Echo", echo},
}

func main() {
	log.SetFlags(0)
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatalf("%s: %v", address, err)
	}
	for _, c := range calls {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		answer, err := c.call(ctx, pb.NewWordsClient(channel))
		cancel()
		if err != nil {
			log.Fatalf("%s failed: %v", c.name, err)
		}
		fmt.Printf("%s: %s\n", c.name, answer)
	}
}

// One message there, one back.
func count(ctx context.Context, words pb.WordsClient) (string, error) {
	response, err := words.Count(ctx, &pb.CountRequest{Text: text})
	return fmt.Sprint(response.GetWords()), err
}

// A failure: its code, its message, and what details it has.
func lookup(ctx context.Context, words pb.WordsClient) (string, error) {
	_, err := words.Lookup(ctx, &pb.LookupRequest{Word: "xylophone"})
	if err == nil {
		return "", errors.New("the word is known")
	}
	failure := status.Convert(err)
	if failure.Code() != codes.NotFound {
		return "", err
	}
	for _, detail := range failure.Details() {
		if info, ok := detail.(*errdetails.ResourceInfo); ok {
			log.Printf("ResourceInfo: %s %s", info.GetResourceType(), info.GetResourceName())
		}
	}
	return fmt.Sprintf("%s %s", code.Code(failure.Code()), failure.Message()), nil
}

// One message there, many back.
func split(ctx context.Context, words pb.WordsClient) (string, error) {
	stream, err := words.Split(ctx, &pb.SplitRequest{Text: text})
	if err != nil {
		return "", err
	}
	var found []string
	for {
		word, err := stream.Recv()
		if err == io.EOF {
			return strings.Join(found, " "), nil
		}
		if err != nil {
			return "", err
		}
		found = append(found, word.GetWord())
	}
}

// Many messages there, one back.
func join(ctx context.Context, words pb.WordsClient) (string, error) {
	stream, err := words.Join(ctx)
	if err != nil {
		return "", err
	}
	for word := range strings.FieldsSeq(text) {
		// io.EOF says that the call has ended already; CloseAndRecv says how.
		if err := stream.Send(&pb.Word{Word: word}); err == io.EOF {
			break
		} else if err != nil {
			return "", err
		}
	}
	response, err := stream.CloseAndRecv()
	return response.GetText(), err
}

// Many there, many back: each word is sent when the one before it has come back.
func echo(ctx context.Context, words pb.WordsClient) (string, error) {
	stream, err := words.Echo(ctx)
	if err != nil {
		return "", err
	}
	var back []string
	for word := range strings.FieldsSeq(text) {
		// As above: when it has ended, Recv says how.
		if err := stream.Send(&pb.Word{Word: word}); err != nil && err != io.EOF {
			return "", err
		}
		echoed, err := stream.Recv()
		if err != nil {
			return "", err
		}
		back = append(back, echoed.GetWord())
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	if _, err := stream.Recv(); err == nil {
		return "", errors.New("more came back than was sent")
	} else if err != io.EOF {
		return "", err
	}
	return strings.Join(back, " "), nil
}
