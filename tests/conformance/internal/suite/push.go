package suite

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/weir-logs/weir/tests/conformance/internal/corpus"
	"github.com/weir-logs/weir/tests/conformance/internal/pushenc"
)

const pushBatch = 1 << 20 // bytes of lines in one push request

// PushCorpus sends the streams, each in arrival order. format is "json" or
// "protobuf".
func (s *Server) PushCorpus(streams []*corpus.Stream, format string) error {
	var batch []*corpus.Stream
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := s.push(batch, format)
		batch, size = nil, 0
		return err
	}
	for _, st := range streams {
		part := &corpus.Stream{Labels: st.Labels}
		batch = append(batch, part)
		for _, e := range st.Entries {
			part.Entries = append(part.Entries, e)
			if size += len(e.Line); size >= pushBatch {
				if err := flush(); err != nil {
					return err
				}
				part = &corpus.Stream{Labels: st.Labels}
				batch = append(batch, part)
			}
		}
	}
	return flush()
}

func (s *Server) push(batch []*corpus.Stream, format string) error {
	var full []*corpus.Stream
	for _, st := range batch {
		if len(st.Entries) > 0 {
			full = append(full, st)
		}
	}
	if len(full) == 0 {
		return nil
	}
	var body []byte
	ctype := "application/json"
	switch format {
	case "json":
		body = pushenc.JSON(full)
	case "protobuf":
		body = pushenc.Snappy(pushenc.Protobuf(full))
		ctype = "application/x-protobuf"
	default:
		return fmt.Errorf("unknown push format %q", format)
	}
	req, err := http.NewRequest(http.MethodPost, s.Addr+paths["push"], bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", ctype)
	if s.Tenant != "" {
		req.Header.Set("X-Scope-OrgID", s.Tenant)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("push: %s: %s", resp.Status, clip(string(text)))
	}
	return nil
}

// WaitReadable polls until the last entry of every stream can be queried.
func (s *Server) WaitReadable(streams []*corpus.Stream, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for _, st := range streams {
		_, hi := st.Bounds()
		for {
			step := &Step{Endpoint: "query_range", Params: map[string]Values{
				"query": {st.Key()}, "limit": {"1"},
				"start": {strconv.FormatInt(hi, 10)}, "end": {strconv.FormatInt(hi+1, 10)},
			}}
			r, err := s.Do(step)
			if err == nil && r.Status == http.StatusOK && strings.Contains(string(r.Body), strconv.FormatInt(hi, 10)) {
				break
			}
			if time.Now().After(deadline) {
				if err != nil {
					return fmt.Errorf("%s: %w", st.Key(), err)
				}
				return fmt.Errorf("%s is not readable: status %d: %s", st.Key(), r.Status, clip(string(r.Body)))
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	return nil
}
