package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
)

// Entries are collected in a batch and pushed until they are stored.
func ExamplePusher() {
	c, err := client.Dial("127.0.0.1:9095", client.WithTenant("acme"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	var batch client.Batch
	batch.Add(map[string]string{"app": "shop"}, time.Now(), []byte("order 17 paid"), map[string]string{"trace_id": "4bf9"})

	pusher := c.NewPusher(client.PusherOptions{
		OnRetry: func(err *client.Error, wait time.Duration) { log.Printf("%v; again in %v", err, wait) },
	})
	resp, err := pusher.Push(context.Background(), batch.Take())
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range resp.GetRejections() {
		log.Printf("refused: %s", r.GetMessage())
	}
}

// All entries of a range, page by page, in the order of their timestamps.
func ExampleClient_Pages() {
	c, err := client.Dial("127.0.0.1:9095")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	end := time.Now()
	req := &queryv1.QueryRangeRequest{
		Query:     `{app="shop"} |= "paid"`,
		Start:     timestamppb.New(end.Add(-time.Hour)),
		End:       timestamppb.New(end),
		Direction: queryv1.Direction_DIRECTION_FORWARD,
		Limit:     1000,
	}
	for page, err := range c.Pages(context.Background(), req) {
		if err != nil {
			log.Fatal(err)
		}
		for stream, entry := range client.Merged(page.GetStreams().GetStreams(), req.GetDirection()) {
			fmt.Println(stream.GetLabels()["app"], string(client.Line(entry)))
		}
	}
}

// A tail goes on over restarts of the server.
func ExampleClient_Tail() {
	c, err := client.Dial("127.0.0.1:9095")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for resp, err := range c.Tail(context.Background(), &tailv1.TailRequest{Query: `{app="shop"}`}) {
		if err != nil {
			log.Fatal(err)
		}
		for _, d := range resp.GetDropped() {
			log.Printf("missing: %d entries, %s", d.GetEntries(), d.GetReason())
		}
		for _, entry := range client.Entries(resp) {
			fmt.Println(string(client.Line(entry)))
		}
	}
}
