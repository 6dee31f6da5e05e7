package column

import (
	"encoding/binary"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// FrameVersion is the version of frames, and of the payloads in them.
const FrameVersion = 1

// Codecs of frames.
const (
	codecStored = 0
	codecZstd   = 1
)

const (
	frameOverhead = 2 + 8 // version, codec; checksum
	minFrame      = frameOverhead + 2
)

// Level is how hard a Compressor works.
type Level uint8

// Levels, in ascending order of ratio and CPU.
const (
	LevelDefault Level = iota // for blocks built at ingest
	LevelFastest
	LevelBetter // for merges
	LevelBest
)

// window is how far back matches are looked for. Few payloads are larger, and an encoder
// holds twice as much for as long as it lives.
const window = 4 << 20

// Compressor makes frames. It is for one goroutine at a time.
type Compressor struct {
	level Level
	zstd  *zstd.Encoder
	best  *zstd.Encoder // of its level
	quick *zstd.Encoder // nil: not needed yet
}

// NewCompressor returns a compressor of a level.
func NewCompressor(level Level) *Compressor {
	e := newEncoder(level)
	return &Compressor{level: level, zstd: e, best: e}
}

// SetQuick makes the compressor work no harder than LevelDefault for what follows.
func (c *Compressor) SetQuick(on bool) {
	c.zstd = c.best
	if on && c.level > LevelFastest {
		if c.quick == nil {
			c.quick = newEncoder(LevelDefault)
		}
		c.zstd = c.quick
	}
}

func newEncoder(level Level) *zstd.Encoder {
	l := zstd.SpeedDefault
	switch level {
	case LevelFastest:
		l = zstd.SpeedFastest
	case LevelBetter:
		l = zstd.SpeedBetterCompression
	case LevelBest:
		l = zstd.SpeedBestCompression
	}
	// Literals are always entropy coded: byte planes are skewed, though they
	// hold no matches. The frame has its own checksum.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(l), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true), zstd.WithWindowSize(window))
	if err != nil {
		panic(err) // options are constants
	}
	return e
}

// AppendFrame appends a frame that holds the payload: compressed, or as it is
// when that is not longer.
func (c *Compressor) AppendFrame(dst, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, FrameVersion, codecZstd)
	dst = binary.AppendUvarint(dst, uint64(len(payload)))
	at := len(dst)
	dst = c.zstd.EncodeAll(payload, dst)
	if len(dst)-at >= len(payload) {
		dst[start+1] = codecStored
		dst = append(dst[:at], payload...)
	}
	return binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(dst[start:]))
}

// decodeSpare is what zstd's decoder wants behind the payload to be fast.
const decodeSpare = 64

// MaxFrame is the largest payload of a frame that readers accept.
const MaxFrame = 1 << 28

var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(MaxFrame), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) // options are constants
	}
	return d
})

// FrameLen returns the length of the payload of a frame without decoding it, so
// that memory can be reserved first. Nothing is verified but the head.
func FrameLen(frame []byte) (int, error) {
	n, _, err := frameHead(frame)
	return n, err
}

func frameHead(frame []byte) (size, at int, err error) {
	if len(frame) < minFrame-1 {
		return 0, 0, Corrupt("frame of %d bytes", len(frame))
	}
	if frame[0] != FrameVersion {
		return 0, 0, Corrupt("frame version %d, this is a reader of version %d", frame[0], FrameVersion)
	}
	if frame[1] > codecZstd {
		return 0, 0, Corrupt("frame codec %d", frame[1])
	}
	n, k := binary.Uvarint(frame[2 : len(frame)-8])
	if k <= 0 || n > MaxFrame {
		return 0, 0, Corrupt("frame with a payload of %d bytes, at most %d are allowed", n, MaxFrame)
	}
	return int(n), 2 + k, nil
}

// ReadFrame verifies a frame and returns its payload. frame is exactly one frame.
// A payload over limit bytes is refused before anything is allocated. The result
// may alias the frame. Safe for concurrent use.
func ReadFrame(frame []byte, limit int) ([]byte, error) {
	return ReadFrameIn(nil, frame, limit)
}

// ReadFrameIn is ReadFrame that may use the memory behind buf, whatever it holds, for the
// payload.
func ReadFrameIn(buf, frame []byte, limit int) ([]byte, error) {
	n, at, err := frameHead(frame)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, Corrupt("frame with a payload of %d bytes where at most %d are expected", n, limit)
	}
	body := len(frame) - 8
	if got, want := xxhash.Sum64(frame[:body]), binary.LittleEndian.Uint64(frame[body:]); got != want {
		return nil, Corrupt("frame checksum %016x, computed %016x", want, got)
	}
	stored := frame[at:body:body]
	if frame[1] == codecStored {
		if len(stored) != n {
			return nil, Corrupt("frame stores %d bytes of %d", len(stored), n)
		}
		return stored, nil
	}
	// More than needed: a payload of 0 bytes would be no capacity, which is no limit,
	// and with some bytes to spare the decoder copies matches in large pieces.
	if cap(buf) < n+decodeSpare {
		buf = make([]byte, n+decodeSpare)
	}
	out, err := decoder().DecodeAll(stored, buf[:0:n+decodeSpare])
	if err != nil {
		return nil, Corrupt("frame: %v", err)
	}
	if len(out) != n {
		return nil, Corrupt("frame decodes to %d bytes of %d", len(out), n)
	}
	return out, nil
}
