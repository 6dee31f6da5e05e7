package column

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Pages are a payload in parts that are read apart: each is the payload of a column of
// some of the values, those that follow each other. Of a dictionary the distinct values
// come before, as the head, and the pages hold indexes.

// PageSize returns the bytes of the part of n of the column's values; -1: the values are of
// several lengths. ok: such columns can be cut into pages.
func (c *Info) PageSize(n int) (size int, ok bool) {
	each := int(c.Width)
	switch c.Kind {
	case Int, Pad, Signed, Dict:
	case IPv4:
		each = 4
	case UUID:
		each = 16
	case Hex:
		each = (c.MinLen + 1) / 2
	case Bytes:
		if c.Width > 0 {
			return -1, true
		}
		each = c.MinLen
	default:
		return 0, false
	}
	return n * each, each > 0
}

// planes returns how many planes a part of the column begins with.
func (c *Info) planes() int {
	switch c.Kind {
	case Int, Pad, Signed, Dict, Bytes:
		return int(c.Width)
	case IPv4:
		return 4
	}
	return 0
}

// Pager cuts a payload into parts, one after the other.
type Pager struct {
	info    *Info
	payload []byte // the head not counted
	next    int    // value
	rest    []byte // what follows the planes, of the values from next on
}

// NewPager returns what cuts the payload that Encode made of the column, and its head.
func NewPager(c *Info, payload []byte) (p *Pager, head []byte) {
	if c.Kind == Dict {
		head, payload = payload[:c.IndexAt], payload[c.IndexAt:]
	}
	return &Pager{info: c, payload: payload, rest: payload[c.planes()*c.N:]}, head
}

// Append appends the part of the next n values to dst.
func (p *Pager) Append(dst []byte, n int) []byte {
	c := p.info
	from, size := p.next, len(p.rest)
	if c.Kind == Bytes {
		size = n * c.MinLen
	} else if p.next+n < c.N {
		size = len(p.rest) / (c.N - p.next) * n
	}
	p.next += n
	for k := range c.planes() {
		plane := p.payload[k*c.N+from:][:n]
		dst = append(dst, plane...)
		if c.Kind == Bytes {
			for _, x := range plane {
				size += int(x) << (8 * k & 63)
			}
		}
	}
	dst = append(dst, p.rest[:size]...)
	p.rest = p.rest[size:]
	return dst
}

// HeadSize returns how many of the payload's first bytes are in no part: the distinct values
// of a dictionary, and all of a payload that cannot be cut.
func (c *Info) HeadSize() int {
	if _, ok := c.PageSize(1); !ok {
		return int(c.Size)
	}
	if c.Kind == Dict {
		return c.IndexAt
	}
	return 0
}

// PartSize returns the bytes of the part of n values that b begins with.
func (c *Info) PartSize(n int, b []byte) (int, error) {
	size, ok := c.PageSize(n)
	if !ok {
		return 0, nil
	}
	if size < 0 {
		if uint64(n)*uint64(c.Width) > uint64(len(b)) {
			return 0, Corrupt("lengths of %d values in %d bytes", n, len(b))
		}
		v := View{info: c, payload: b, n: n}
		text, ok := v.sum(0, n)
		if !ok || text > uint64(len(b)) {
			return 0, Corrupt("values of a page end behind %d bytes", len(b))
		}
		size = n*int(c.Width) + int(text)
	}
	if size > len(b) {
		return 0, Corrupt("part of %d bytes in %d", size, len(b))
	}
	return size, nil
}

// Joiner puts the parts of a payload together, one after the other.
type Joiner struct {
	info   *Info
	planes []byte
	rest   []byte // of the payload, behind the planes, where the next part goes
	next   int    // value
}

// NewJoiner begins a payload, which is made in out, of c.Size bytes.
func NewJoiner(c *Info, head, out []byte) (Joiner, error) {
	if len(head) != c.HeadSize() {
		return Joiner{}, Corrupt("head of %d bytes, not %d", len(head), c.HeadSize())
	}
	planes := 0
	if len(head) < len(out) {
		planes = c.planes()
	}
	if uint64(len(head))+uint64(planes)*uint64(c.N) > uint64(len(out)) {
		return Joiner{}, Corrupt("%v column of %d values in %d bytes", c.Kind, c.N, len(out))
	}
	out = out[copy(out, head):]
	return Joiner{info: c, planes: out[:planes*c.N], rest: out[planes*c.N:]}, nil
}

// Add adds the part of the next n values.
func (j *Joiner) Add(n int, part []byte) error {
	planes := 0
	if j.info.N > 0 {
		planes = len(j.planes) / j.info.N
	}
	if n > j.info.N-j.next || len(part) < planes*n || len(part)-planes*n > len(j.rest) {
		return Corrupt("page of %d bytes where %d are left", len(part), len(j.rest))
	}
	for k := range planes {
		copy(j.planes[k*j.info.N+j.next:][:n], part[k*n:])
	}
	j.next += n
	j.rest = j.rest[copy(j.rest, part[planes*n:]):]
	return nil
}

// Close reports whether the payload is whole.
func (j *Joiner) Close() error {
	if len(j.rest) > 0 || len(j.planes) > 0 && j.next != j.info.N {
		return Corrupt("pages end %d bytes early", len(j.rest))
	}
	return nil
}

// JoinPages returns the payload of a column of which each part has count values, the last
// one those that are left. part returns each part; it has the size of the part if that is
// known. The payload takes c.Size bytes.
func JoinPages(c *Info, head []byte, count int, part func(i int) ([]byte, error)) ([]byte, error) {
	out := make([]byte, c.Size)
	j, err := NewJoiner(c, head, out)
	if err != nil {
		return nil, err
	}
	for from := 0; from < c.N; from += count {
		p, err := part(from / count)
		if err != nil {
			return nil, err
		}
		if err := j.Add(min(count, c.N-from), p); err != nil {
			return nil, err
		}
	}
	return out, j.Close()
}

// PageView returns a view of a part of a column, n values, whose numbers in the view are
// from 0 on. head is the view of a dictionary's distinct values, see NewHeadView; otherwise
// nil.
func PageView(c *Info, n int, head *View, part []byte) (*View, error) {
	own := *c
	own.N, own.Size = n, uint32(len(part))
	if c.Kind != Dict {
		return NewView(&own, part)
	}
	own.IndexAt = 0
	if n*int(c.Width) != len(part) || c.Width == 0 || head == nil {
		return nil, Corrupt("%d indexes in %d bytes", n, len(part))
	}
	return &View{info: &own, payload: part, n: n, dict: head.dict, opened: head.opened, shared: true}, nil
}

// NewHeadView returns what PageView needs of a dictionary, given its head.
func NewHeadView(c *Info, head []byte) (*View, error) {
	if c.Values == nil || c.IndexAt != len(head) {
		return nil, Corrupt("distinct values of %d bytes, not %d", len(head), c.IndexAt)
	}
	v := &View{info: c, n: c.N}
	if err := v.openDict(head); err != nil {
		return nil, err
	}
	return v, nil
}

// pageSum is the length of a page's checksum.
const pageSum = 4

// StoredPage is the length of a page that is not compressed.
func StoredPage(size int) int { return size + pageSum }

// AppendPage appends a page: the part, compressed where that makes it shorter and packed is
// asked for, and its checksum.
func (c *Compressor) AppendPage(dst, part []byte, packed bool) []byte {
	at := len(dst)
	if packed {
		dst = c.zstd.EncodeAll(part, dst)
	}
	if !packed || len(dst)-at >= len(part) {
		dst = append(dst[:at], part...)
	}
	return binary.LittleEndian.AppendUint32(dst, uint32(xxhash.Sum64(dst[at:])))
}

// ReadPage verifies a page and returns its part of the payload, of size bytes. The result
// may alias the page.
func ReadPage(page []byte, size int) ([]byte, error) { return ReadPageIn(nil, page, size) }

// ReadPageIn is ReadPage that may use the memory behind buf, whatever it holds, for the part.
func ReadPageIn(buf, page []byte, size int) ([]byte, error) {
	n := len(page) - pageSum
	if n < 0 || n > size {
		return nil, Corrupt("page of %d bytes with %d of a payload", len(page), size)
	}
	if got, want := uint32(xxhash.Sum64(page[:n])), binary.LittleEndian.Uint32(page[n:]); got != want {
		return nil, Corrupt("page checksum %08x, computed %08x", want, got)
	}
	if n == size {
		return page[:n:n], nil
	}
	if cap(buf) < size+decodeSpare {
		buf = make([]byte, size+decodeSpare)
	}
	out, err := decoder().DecodeAll(page[:n], buf[:0:size+decodeSpare])
	if err != nil {
		return nil, Corrupt("page: %v", err)
	}
	if len(out) != size {
		return nil, Corrupt("page decodes to %d bytes of %d", len(out), size)
	}
	return out, nil
}
