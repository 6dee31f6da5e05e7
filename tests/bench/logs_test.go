package bench

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/shopgen"
)

// logs are requests, encoded so that sending them costs next to nothing.
type logs struct {
	name        string
	bodies      [][]byte
	lines       int
	bytes       int // of lines
	streams     int
	first, last time.Time
}

// bodyBytes is how large a request is: as the agent's.
const bodyBytes = 1 << 20

// lineRate is how many lines there are a second.
const lineRate = 2000

// source gives lines: the stream's number, its labels, and the line.
type source func() (stream int, labels map[string]string, line []byte)

// read takes so many bytes of lines from the files of a directory, each a stream, or from
// the generator. The newest is a minute old.
func read(dir string, size int) (*logs, error) {
	next, name, err := generated()
	if dir != "" {
		next, name, err = files(dir)
	}
	if err != nil {
		return nil, err
	}
	l := &logs{name: name}
	begin := time.Now().Truncate(time.Second).Add(-time.Minute - time.Duration(size/60)*time.Second/lineRate)
	l.first = begin
	seen := map[int]bool{}
	var batch client.Batch
	take := func() error {
		req := batch.Take()
		if req == nil {
			return nil
		}
		req.BatchTimeUnixNano = begin.UnixNano() + int64(len(l.bodies))
		body, err := proto.Marshal(req)
		l.bodies = append(l.bodies, body)
		return err
	}
	for l.bytes < size {
		stream, labels, line := next()
		seen[stream] = true
		l.last = begin.Add(time.Duration(l.lines) * time.Second / lineRate)
		batch.Add(labels, l.last, line, nil)
		l.lines++
		l.bytes += len(line)
		if batch.Size() >= bodyBytes {
			if err := take(); err != nil {
				return nil, err
			}
		}
	}
	l.streams = len(seen)
	return l, take()
}

// generated gives lines of the shop that weirctl generate and the demo use.
func generated() (source, string, error) {
	g, err := shopgen.New(shopgen.Config{Seed: 1, Start: time.Unix(1_760_000_000, 0), Rate: lineRate})
	if err != nil {
		return nil, "", err
	}
	var labels []map[string]string
	for _, s := range g.Streams() {
		labels = append(labels, s.Labels())
	}
	return func() (int, map[string]string, []byte) {
		r := g.Next()
		return r.Stream, labels[r.Stream], r.Line
	}, "generated logs", nil
}

// files gives lines of all files of a directory in turn, from the beginning again where
// one has ended.
func files(dir string) (source, string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(paths) == 0 {
		return nil, "", fmt.Errorf("no *.log in %s: %w", dir, err)
	}
	type file struct {
		lines  [][]byte
		labels map[string]string
		at     int
	}
	var all []*file
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, "", err
		}
		one := &file{labels: map[string]string{"env": "prod", "app": strings.TrimSuffix(filepath.Base(path), ".log")}}
		sc := bufio.NewScanner(f)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			one.lines = append(one.lines, append([]byte(nil), sc.Bytes()...))
		}
		_ = f.Close() // it was only read
		if err := sc.Err(); err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		if len(one.lines) > 0 {
			all = append(all, one)
		}
	}
	i := 0
	return func() (int, map[string]string, []byte) {
		i = (i + 1) % len(all)
		f := all[i]
		line := f.lines[f.at%len(f.lines)]
		f.at++
		return i, f.labels, line
	}, filepath.Base(dir), nil
}
