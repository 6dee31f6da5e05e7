package querier

import (
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
)

const (
	// streamPage is how many entries one message of a stream has at most.
	streamPage = 500
	// pageBytes is how many bytes they have, roughly and but for the last entry: well
	// below what gRPC's clients take by default.
	pageBytes = 2 << 20
)

// entryBytes is roughly what an entry takes in a message.
func entryBytes(line int, sets ...model.Labels) int {
	n := 32 + line
	for _, set := range sets {
		for _, l := range set {
			n += len(l.Name) + len(l.Value) + 8
		}
	}
	return n
}

// pages cuts streams into pages of bounded length, stream by stream.
func pages(all []engine.LogStream, yield func([]engine.LogStream) error) error {
	var page []engine.LogStream
	n, bytes := 0, 0
	for _, st := range all {
		for len(st.Entries) > 0 {
			bytes += entryBytes(0, st.Labels)
			take := 0
			for take < len(st.Entries) && n+take < streamPage && (bytes < pageBytes || n+take == 0) {
				e := &st.Entries[take]
				bytes += entryBytes(len(e.Line), e.Metadata, e.Parsed)
				take++
			}
			if take > 0 {
				page = append(page, engine.LogStream{Labels: st.Labels, Entries: st.Entries[:take]})
				st.Entries = st.Entries[take:]
			}
			if n += take; n == streamPage || bytes >= pageBytes {
				if err := yield(page); err != nil {
					return err
				}
				page, n, bytes = nil, 0, 0
			}
		}
	}
	if n == 0 {
		return nil
	}
	return yield(page)
}

// pagePoints is how many points of a metric result one message has, but for the
// last series.
const pagePoints = 50_000

// matrixPages cuts a metric result into pages of whole series; an empty one is one
// empty page.
func matrixPages(all []engine.Series, yield func([]engine.Series) error) error {
	if len(all) == 0 {
		return yield(nil)
	}
	for len(all) > 0 {
		n, points := 0, 0
		for n < len(all) && (n == 0 || points+len(all[n].Points) <= pagePoints) {
			points += len(all[n].Points)
			n++
		}
		if err := yield(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}
