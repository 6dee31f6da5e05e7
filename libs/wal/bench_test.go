package wal_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/wal"
)

// BenchmarkAppend is four appenders that each wait for their record to be durable.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			log, err := wal.Open(b.TempDir(), wal.Options{ReserveBytes: -1})
			if err != nil {
				b.Fatal(err)
			}
			defer log.Close()
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			work := make(chan struct{})
			done := make(chan error)
			for range 4 {
				go func() {
					for range work {
						if _, err := log.Append(context.Background(), 1, payload); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			for range 4 {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReplay(b *testing.B) {
	path := b.TempDir()
	opts := wal.Options{ReserveBytes: -1}
	log, err := wal.Open(path, opts)
	if err != nil {
		b.Fatal(err)
	}
	const records, size = 2000, 64 << 10
	for range records {
		if _, err := log.Begin(context.Background(), 1, make([]byte, size)); err != nil {
			b.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	if log, err = wal.Open(path, opts); err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	b.SetBytes(records * size)
	b.ReportAllocs()
	for b.Loop() {
		report, err := log.Replay(context.Background(), func(uint64, byte, []byte) error { return nil })
		if err != nil || report.Records != records {
			b.Fatal(err, report)
		}
	}
}
