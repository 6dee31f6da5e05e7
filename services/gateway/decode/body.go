package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// Sizes bound a request.
type Sizes struct {
	Wire int64 // bytes of the body as sent
	Raw  int64 // bytes once decompressed
}

// Body reads a request's body and undoes its Content-Encoding: none, gzip or deflate
// (with or without zlib's header). Snappy counts as none: in Loki's API it names
// what the body itself is made of, see [Snappy]. length is the announced length, -1
// if unknown.
func Body(r io.Reader, length int64, encoding string, most Sizes, memory *Reservation) ([]byte, error) {
	switch encoding {
	case "", "snappy", "gzip", "deflate":
	default:
		return nil, rpcerr.New(rpcerr.InvalidArgument, "Content-Encoding %q not supported", encoding)
	}
	return body(r, length, encoding, most, memory)
}

// OTLPBody is [Body] with the encodings of OpenTelemetry's exporters: none, gzip, zstd
// or lz4 (with frames).
func OTLPBody(r io.Reader, length int64, encoding string, most Sizes, memory *Reservation) ([]byte, error) {
	switch encoding {
	case "", "gzip", "zstd", "lz4":
	default:
		return nil, rpcerr.New(rpcerr.InvalidArgument, "unsupported content encoding %s: only gzip, lz4 and zstd are supported", encoding)
	}
	return body(r, length, encoding, most, memory)
}

// maxWindow is the most that zstd may look back: what its levels use, and what RFC 8878
// recommends at least.
const maxWindow = 8 << 20

// zstdHolds is what decompressing zstd holds: the window, and a block.
const zstdHolds = maxWindow + 1<<20

// lz4Blocks is what decompressing lz4 holds: blocks of at most 4 MiB, packed and not.
const lz4Blocks = 2 * 4 << 20

func body(r io.Reader, length int64, encoding string, most Sizes, memory *Reservation) ([]byte, error) {
	if length > most.Wire {
		drain(r, length-most.Wire, most)
		return nil, wireTooLarge(length, most)
	}
	body, err := readAll(r, most.Wire, int(max(length, 0)), memory)
	if errors.Is(err, errTooLong) {
		drain(r, 0, most)
		return nil, wireTooLarge(most.Wire+1, most)
	}
	if err != nil {
		return nil, bodyError(err)
	}
	var raw io.Reader
	switch encoding {
	case "gzip":
		if raw, err = gzip.NewReader(bytes.NewReader(body)); err != nil {
			return nil, compressed(encoding, err)
		}
	case "deflate":
		if len(body) >= 2 && body[0]&15 == 8 && (uint(body[0])<<8|uint(body[1]))%31 == 0 {
			if raw, err = zlib.NewReader(bytes.NewReader(body)); err != nil {
				return nil, compressed(encoding, err)
			}
		} else {
			raw = flate.NewReader(bytes.NewReader(body))
		}
	case "zstd":
		if err := memory.Grow(zstdHolds); err != nil {
			return nil, err
		}
		defer memory.Shrink(zstdHolds)
		dec, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, compressed(encoding, err)
		}
		defer dec.Close()
		raw = dec
	case "lz4":
		if err := memory.Grow(lz4Blocks); err != nil {
			return nil, err
		}
		defer memory.Shrink(lz4Blocks)
		raw = lz4.NewReader(bytes.NewReader(body))
	default:
		if int64(len(body)) > most.Raw {
			return nil, rawTooLarge(most)
		}
		return body, nil
	}
	out, err := readAll(raw, most.Raw, 0, memory)
	memory.Shrink(len(body))
	switch {
	case errors.Is(err, errTooLong):
		return nil, rawTooLarge(most)
	case err != nil && rpcerr.ReasonOf(err) != rpcerr.Internal:
		return nil, err
	case err != nil:
		return nil, compressed(encoding, err)
	}
	return out, nil
}

// drain reads on for a while in a body that is too long: most clients look at the
// answer only when they have sent all, and take a connection that is cut before for
// a fault of the network, after which they try again.
func drain(r io.Reader, beyond int64, most Sizes) {
	if beyond < most.Raw {
		_, _ = io.CopyN(io.Discard, r, most.Raw) // as far as it goes
	}
}

// Snappy decompresses a block in snappy's format (the one without frames). What the
// block says about its length is checked before anything is allocated for it. Who has
// no use for the result any more may hand it to [Recycle].
func Snappy(block []byte, most Sizes, memory *Reservation) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, compressed("snappy", err)
	}
	if int64(n) > most.Raw {
		return nil, rawTooLarge(most)
	}
	// Three bytes of a block make at most 64: a length beyond that is a lie.
	if n > 32*len(block) {
		return nil, compressed("snappy", fmt.Errorf("%d bytes cannot hold the %d that they announce", len(block), n))
	}
	if err := memory.Grow(n); err != nil {
		return nil, err
	}
	dst, _ := unpacked.Get().(*[]byte)
	if dst == nil || cap(*dst) < n {
		// Requests to come may be a little larger.
		b := make([]byte, 0, n+n/8)
		dst = &b
	}
	out, err := snappy.Decode(*dst, block)
	if err != nil {
		return nil, compressed("snappy", err)
	}
	return out, nil
}

// unpacked keeps the memory of bodies that are decoded.
var unpacked sync.Pool

// maxRecycled is the largest that is kept.
const maxRecycled = 4 << 20

// Recycle gives the memory of what [Snappy] returned to calls to come.
func Recycle(b []byte) {
	if cap(b) <= maxRecycled {
		unpacked.Put(&b)
	}
}

// bodies keeps the memory of bodies as they came, by the length of its size in bits: where
// small and large ones come in turn, neither takes out what the other needs.
var bodies [22]sync.Pool

// RecycleBody is [Recycle] of what [Body] returned.
func RecycleBody(b []byte) {
	if cap(b) <= maxPage+maxPage/8 {
		bodies[bits.Len(uint(cap(b)))].Put(&b)
	}
}

// maxPage is how far an announced length is believed: a body that never comes must not hold
// memory.
const maxPage = 1<<20 + 512

// page returns memory for a body of about n bytes.
func page(n int) []byte {
	n = min(n+512, maxPage)
	size := bits.Len(uint(n))
	if b, _ := bodies[size].Get().(*[]byte); b != nil && cap(*b) >= n { // else it is near, and goes
		return (*b)[:0]
	}
	if b, _ := bodies[min(size+1, len(bodies)-1)].Get().(*[]byte); b != nil {
		if cap(*b) >= n && cap(*b) <= 2*n {
			return (*b)[:0]
		}
		RecycleBody(*b) // for one that it fits
	}
	return make([]byte, 0, n+n/8)
}

var errTooLong = errors.New("too long")

// readAll reads r to its end; longer than most is an error. hint is how many bytes
// are expected.
func readAll(r io.Reader, most int64, hint int, memory *Reservation) ([]byte, error) {
	if err := memory.Grow(hint); err != nil {
		return nil, err
	}
	b := page(hint)
	counted := hint
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > most {
			return nil, errTooLong
		}
		if len(b) > counted {
			if err := memory.Grow(len(b) - counted); err != nil {
				return nil, err
			}
			counted = len(b)
		}
		if err == io.EOF {
			memory.Shrink(counted - len(b))
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// bodyError is why a body could not be read.
func bodyError(err error) error {
	if rpcerr.ReasonOf(err) != rpcerr.Internal {
		return err
	}
	return rpcerr.Wrap(err, rpcerr.InvalidArgument, "the request body could not be read: %v", err)
}

func compressed(how string, err error) error {
	return rpcerr.Wrap(err, rpcerr.InvalidArgument, "the request body is not valid %s: %v", how, err)
}

func wireTooLarge(n int64, most Sizes) error {
	return rpcerr.New(rpcerr.TooLarge, "request body too large: %d bytes or more, at most %d are allowed", n, most.Wire)
}

func rawTooLarge(most Sizes) error {
	return rpcerr.New(rpcerr.TooLarge, "request body too large: more than the %d bytes that are allowed once decompressed", most.Raw)
}
