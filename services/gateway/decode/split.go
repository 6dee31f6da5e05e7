package decode

import (
	"fmt"
	"slices"
	"strings"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

// Part is a piece of a request that is sent by itself.
type Part struct {
	Request *ingestv1.WriteRequest
	// From says, for each of the piece's streams, where its first row was in the
	// whole request.
	From []Place
}

// Place is a row of a request.
type Place struct{ Stream, Row uint32 }

// Split cuts a request into parts of at most about most bytes, rows in their order.
// A row that is larger by itself can be in no part: the response, else nil, counts
// and lists such rows. Parts share their memory with the request.
func Split(req *ingestv1.WriteRequest, most int) ([]Part, *ingestv1.WriteResponse) {
	total := 0
	for _, b := range req.GetStreams() {
		total += blockSize(b)
	}
	if total <= most {
		from := make([]Place, len(req.GetStreams()))
		for i := range from {
			from[i].Stream = uint32(i)
		}
		return []Part{{req, from}}, nil
	}
	s := &splitter{req: req, most: most}
	for i, b := range req.GetStreams() {
		s.stream(uint32(i), b)
	}
	s.flush()
	return s.parts, s.refused
}

type splitter struct {
	req     *ingestv1.WriteRequest
	most    int
	parts   []Part
	part    Part // in work
	size    int
	refused *ingestv1.WriteResponse
}

func (s *splitter) flush() {
	if len(s.part.From) > 0 {
		s.parts = append(s.parts, s.part)
	}
	s.part = Part{Request: &ingestv1.WriteRequest{
		BatchTimeUnixNano: s.req.GetBatchTimeUnixNano(), Door: s.req.GetDoor(), Stamp: s.req.GetStamp(),
	}}
	s.size = 0
}

func (s *splitter) add(stream, row uint32, b *ingestv1.StreamBlock) {
	if s.part.Request == nil {
		s.flush()
	}
	s.part.Request.Streams = append(s.part.Request.Streams, b)
	s.part.From = append(s.part.From, Place{stream, row})
}

func (s *splitter) stream(stream uint32, b *ingestv1.StreamBlock) {
	if n := blockSize(b); s.size+n <= s.most {
		s.add(stream, 0, b)
		s.size += n
		return
	}
	sizes := rowSizes(b)
	fixed := fixedSize(b)
	from := 0
	size := s.size + fixed
	cut := func(to int) {
		if to > from {
			s.add(stream, uint32(from), cutBlock(b, from, to))
		}
		from = to
	}
	for i, n := range sizes {
		if fixed+n > s.most {
			if i > from {
				cut(i)
				size += fixed // of the piece behind it
			}
			s.refuse(stream, i, b, n)
			from = i + 1
			continue
		}
		if size+n > s.most {
			cut(i)
			s.flush()
			size = fixed
		}
		size += n
	}
	cut(len(sizes))
	s.size = size
}

func (s *splitter) refuse(stream uint32, row int, b *ingestv1.StreamBlock, size int) {
	if s.refused == nil {
		s.refused = &ingestv1.WriteResponse{}
	}
	s.refused.RejectedEntries++
	labels := b.GetLabels()
	if len(labels) > 1024 {
		labels = labels[:1024] + "…"
	}
	s.refused.Rejections = append(s.refused.Rejections, &ingestv1.Rejection{
		Stream: stream, Row: uint32(row), Count: 1, Reason: uint32(pushv1.RejectReason_REJECT_REASON_LINE_TOO_LONG),
		Message: fmt.Sprintf("max entry size '%d' bytes exceeded for stream '%s' while adding an entry with length '%d' bytes", s.most, strings.ToValidUTF8(labels, ""), size),
	})
}

// fixedSize is the bytes of a block that each of its pieces has again.
func fixedSize(b *ingestv1.StreamBlock) int {
	n := len(b.GetLabels()) + 64
	for _, c := range b.GetMetadata() {
		n += len(c.GetName()) + 32
	}
	return n
}

func blockSize(b *ingestv1.StreamBlock) int {
	n := fixedSize(b) + 12*len(b.GetTimes()) + len(b.GetSlab()) + 5*len(b.GetCopies())
	for _, c := range b.GetMetadata() {
		n += 8*len(c.GetEnds()) + len(c.GetSlab())
	}
	return n
}

// rowSizes returns the bytes of each row.
func rowSizes(b *ingestv1.StreamBlock) []int {
	sizes := make([]int, len(b.GetTimes()))
	prev := uint32(0)
	for i, end := range b.GetLineEnds() {
		sizes[i] = 12 + int(end-prev)
		prev = end
		if len(b.GetCopies()) > 0 {
			sizes[i] += 5
		}
	}
	for _, c := range b.GetMetadata() {
		prev := uint32(0)
		for k, end := range c.GetEnds() {
			row := k
			if len(c.GetRows()) > 0 {
				row = int(c.GetRows()[k])
			}
			sizes[row] += 8 + int(end-prev)
			prev = end
		}
	}
	return sizes
}

// cutBlock returns the rows [from, to) of a block.
func cutBlock(b *ingestv1.StreamBlock, from, to int) *ingestv1.StreamBlock {
	out := &ingestv1.StreamBlock{Labels: b.GetLabels(), Times: b.GetTimes()[from:to]}
	out.LineEnds, out.Slab = cutStrings(b.GetLineEnds(), b.GetSlab(), from, to)
	if len(b.GetCopies()) > 0 {
		out.Copies = b.GetCopies()[from:to]
	}
	for _, c := range b.GetMetadata() {
		col := &ingestv1.Column{Name: c.GetName()}
		i, k := from, to
		if rows := c.GetRows(); len(rows) > 0 {
			i, _ = slices.BinarySearch(rows, uint32(from))
			k, _ = slices.BinarySearch(rows, uint32(to))
			for _, r := range rows[i:k] {
				col.Rows = append(col.Rows, r-uint32(from))
			}
		}
		if i == k {
			continue
		}
		col.Ends, col.Slab = cutStrings(c.GetEnds(), c.GetSlab(), i, k)
		out.Metadata = append(out.Metadata, col)
	}
	return out
}

func cutStrings(ends []uint32, slab []byte, from, to int) ([]uint32, []byte) {
	start := uint32(0)
	if from > 0 {
		start = ends[from-1]
	}
	out := make([]uint32, to-from)
	for i := range out {
		out[i] = ends[from+i] - start
	}
	if to == from {
		return out, nil
	}
	return out, slab[start:ends[to-1]]
}
