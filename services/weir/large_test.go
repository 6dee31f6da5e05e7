package weir

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// An answer that is larger than a message between services is given all the same.
func TestLargeAnswers(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	at := time.Now().Add(-time.Minute)
	line := strings.Repeat("x", 200<<10)
	for i := range 20 {
		var lines []string
		for k := range 5 {
			lines = append(lines, fmt.Sprint(i, " ", k, " ", line))
		}
		p.push(t, "large", at.Add(time.Duration(i)*time.Second), lines...)
	}
	q := url.Values{"query": {`{app="large"}`}, "limit": {"1000"}, "start": {fmt.Sprint(at.Add(-time.Hour).UnixNano())}}
	resp, err := http.Get("http://" + p.HTTPAddr() + "/loki/api/v1/query_range?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Values [][]any `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	n := 0
	for _, s := range answer.Data.Result {
		n += len(s.Values)
	}
	if n != 100 {
		t.Errorf("%s: %d entries, want 100", resp.Status, n)
	}
}
