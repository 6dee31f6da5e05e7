package client

import (
	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

// span is entries [from, to) of one stream of a request. A stream without
// entries is a span of its own, so that the server can refuse it.
type span struct{ stream, from, to int }

// units counts what a part can be halved into.
func (s span) units() int { return max(1, s.to-s.from) }

// part is consecutive entries of a request, small enough to send.
type part struct {
	spans []span
	first int // how many units of the request come before
}

func (p part) units() int {
	n := 0
	for _, s := range p.spans {
		n += s.units()
	}
	return n
}

// request gives the part as a message that shares the entries of req.
//
// Batch times order entries of equal timestamp, and positions start anew in
// each part, so a part's batch time is the request's plus what comes before it:
// the same however the request is cut.
func (p part) request(req *pushv1.PushRequest, batchTime int64) *pushv1.PushRequest {
	out := &pushv1.PushRequest{BatchTimeUnixNano: batchTime + int64(p.first)}
	for _, s := range p.spans {
		st := req.GetStreams()[s.stream]
		out.Streams = append(out.Streams, &pushv1.Stream{Labels: st.GetLabels(), Entries: st.GetEntries()[s.from:s.to]})
	}
	return out
}

// halves cuts a part of at least two units in two.
func (p part) halves() (a, b part) {
	left := p.units() / 2
	a.first, b.first = p.first, p.first+left
	for _, s := range p.spans {
		switch n := s.units(); {
		case left == 0:
			b.spans = append(b.spans, s)
		case n <= left:
			a.spans = append(a.spans, s)
			left -= n
		default:
			a.spans = append(a.spans, span{s.stream, s.from, s.from + left})
			b.spans = append(b.spans, span{s.stream, s.from + left, s.to})
			left = 0
		}
	}
	return a, b
}

// locate gives the span, and in it the entry, that a rejection of the part's
// request is about, as indexes into the whole request.
func (p part) locate(r *pushv1.Rejection) (stream, entry uint32) {
	i := int(r.GetStream())
	if i >= len(p.spans) {
		return r.GetStream(), r.GetEntry()
	}
	return uint32(p.spans[i].stream), uint32(p.spans[i].from) + r.GetEntry()
}

// split cuts a request into parts of at most maxBytes on the wire; an entry
// that is larger is a part of its own.
func split(req *pushv1.PushRequest, maxBytes int) []part {
	var whole part
	for i, s := range req.GetStreams() {
		whole.spans = append(whole.spans, span{i, 0, len(s.GetEntries())})
	}
	if len(whole.spans) == 0 {
		return nil
	}
	if proto.Size(req)+16 <= maxBytes {
		return []part{whole}
	}

	const overhead = 16 // tags and lengths of a message, the batch time
	var (
		parts []part
		cur   part
		size  = overhead
		units int
	)
	flush := func() {
		if len(cur.spans) > 0 {
			parts = append(parts, cur)
		}
		cur, size = part{first: units}, overhead
	}
	for i, s := range req.GetStreams() {
		head := proto.Size(&pushv1.Stream{Labels: s.GetLabels()}) + overhead
		if len(s.GetEntries()) == 0 {
			if size+head > maxBytes {
				flush()
			}
			cur.spans = append(cur.spans, span{i, 0, 0})
			size += head
			units++
			continue
		}
		open := false // the last span of cur is this stream's
		for j, e := range s.GetEntries() {
			n := proto.Size(e) + 8
			need := n
			if !open {
				need += head
			}
			if size+need > maxBytes && len(cur.spans) > 0 {
				flush()
				open = false
				need = n + head
			}
			if !open {
				cur.spans = append(cur.spans, span{i, j, j})
				open = true
			}
			cur.spans[len(cur.spans)-1].to++
			size += need
			units++
		}
	}
	flush()
	return parts
}
