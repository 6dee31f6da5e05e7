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

// JoinPages returns the payload of a column of which each part has count values, the last
// one those that are left. part returns each part; it has the size of the part if that is
// known. The payload takes c.Size bytes.
func JoinPages(c *Info, head []byte, count int, part func(i int) ([]byte, error)) ([]byte, error) {
	if c.Kind == Dict && len(head) != c.IndexAt {
		return nil, Corrupt("distinct values of %d bytes, not %d", len(head), c.IndexAt)
	}
	out := make([]byte, c.Size)
	planes, at := c.planes(), len(head)
	if uint64(len(head))+uint64(planes)*uint64(c.N) > uint64(len(out)) {
		return nil, Corrupt("%v column of %d values in %d bytes", c.Kind, c.N, len(out))
	}
	copy(out, head)
	rest := out[at+planes*c.N:]
	for from := 0; from < c.N; from += count {
		p, err := part(from / count)
		if err != nil {
			return nil, err
		}
		n := min(count, c.N-from)
		if len(p) < planes*n || len(p)-planes*n > len(rest) {
			return nil, Corrupt("page of %d bytes where %d are left", len(p), len(rest))
		}
		for k := range planes {
			copy(out[at+k*c.N+from:][:n], p[k*n:])
		}
		rest = rest[copy(rest, p[planes*n:]):]
	}
	if len(rest) > 0 {
		return nil, Corrupt("pages end %d bytes early", len(rest))
	}
	return out, nil
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
func ReadPage(page []byte, size int) ([]byte, error) {
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
	out, err := decoder().DecodeAll(page[:n], make([]byte, 0, size+decodeSpare))
	if err != nil {
		return nil, Corrupt("page: %v", err)
	}
	if len(out) != size {
		return nil, Corrupt("page decodes to %d bytes of %d", len(out), size)
	}
	return out, nil
}
