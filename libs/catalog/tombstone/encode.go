package tombstone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/catalog"
)

// maxObject is the largest object in bytes.
const maxObject = 256 << 10

// ErrDamaged means that bytes are no object of a delete that this version reads.
var ErrDamaged = errors.New("damaged delete")

// Objects are text, since operators will want to read what was deleted, and are few: a line with the
// kind, the version and the checksum of the rest, then JSON. A later version with another meaning has
// another number, and fields that are not known are refused: to pass over half of a delete would delete
// too much.
const version = 1

func encode(kind string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	out := fmt.Appendf(nil, "weir %s %d %016x\n", kind, version, xxhash.Sum64(body))
	if out = append(out, body...); len(out) > maxObject {
		return nil, fmt.Errorf("%s of %d bytes, at most %d are allowed", kind, len(out), maxObject)
	}
	return out, nil
}

func decode(kind string, b []byte, v any) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrDamaged, kind, fmt.Sprintf(format, args...))
	}
	if len(b) > maxObject {
		return fail("%d bytes", len(b))
	}
	head, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return fail("it is cut")
	}
	if major := fmt.Sprintf("weir %s %d ", kind, version); !strings.HasPrefix(string(head), major) {
		return fail("it begins with %.40q, not %q", head, major)
	}
	if want := fmt.Sprintf("weir %s %d %016x", kind, version, xxhash.Sum64(body)); string(head) != want {
		return fail("checksum")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fail("%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fail("more than one value")
	}
	return nil
}

type tombstoneObject struct {
	ID      string `json:"id"`
	Tenant  string `json:"tenant"`
	Query   string `json:"query"`
	Start   int64  `json:"start_ns"`
	End     int64  `json:"end_ns"`
	Created int64  `json:"created_ms"`
}

// Encode returns the tombstone's object, which docs/format/bucket.md describes.
func (t *Tombstone) Encode() ([]byte, error) {
	return encode("tombstone", tombstoneObject{t.ID, t.Tenant, t.Query, t.Start, t.End, t.Created.UnixMilli()})
}

// Decode reads what Encode made. The error wraps ErrDamaged.
func Decode(b []byte) (*Tombstone, error) {
	var o tombstoneObject
	if err := decode("tombstone", b, &o); err != nil {
		return nil, err
	}
	const maxMillis = 1 << 43 // what nanoseconds can say
	if o.Created < 0 || o.Created > maxMillis {
		return nil, fmt.Errorf("%w: created at %d", ErrDamaged, o.Created)
	}
	t := &Tombstone{ID: o.ID, Tenant: o.Tenant, Query: o.Query, Start: o.Start, End: o.End, Created: time.UnixMilli(o.Created).UTC()}
	if err := t.parse(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return t, nil
}

// Decision says that a delete is carried out, or that it is cancelled. There is one at most.
type Decision struct {
	State State // Rewriting or Cancelled
	By    string
	At    time.Time // milliseconds
}

type decisionObject struct {
	State string `json:"state"`
	By    string `json:"by"`
	At    int64  `json:"at_ms"`
}

func (d Decision) encode() ([]byte, error) {
	return encode("decision", decisionObject{d.State.String(), d.By, d.At.UnixMilli()})
}

func decodeDecision(b []byte) (Decision, error) {
	var o decisionObject
	if err := decode("decision", b, &o); err != nil {
		return Decision{}, err
	}
	d := Decision{By: o.By, At: time.UnixMilli(o.At).UTC()}
	switch o.State {
	case Rewriting.String():
		d.State = Rewriting
	case Cancelled.String():
		d.State = Cancelled
	default:
		return Decision{}, fmt.Errorf("%w: decision %q", ErrDamaged, o.State)
	}
	return d, nil
}

// Removal is what the writing of one block left out: the proof of the delete.
type Removal struct {
	Block   catalog.ID   // that was written
	Sources []catalog.ID // that it replaces
	Entries uint64       // that were left out
	Time    time.Time    // milliseconds
}

type removalObject struct {
	Block   catalog.ID   `json:"block"`
	Sources []catalog.ID `json:"sources"`
	Entries uint64       `json:"entries"`
	Time    int64        `json:"time_ms"`
}

func (r Removal) encode() ([]byte, error) {
	return encode("removal", removalObject{r.Block, r.Sources, r.Entries, r.Time.UnixMilli()})
}

func decodeRemoval(b []byte) (Removal, error) {
	var o removalObject
	if err := decode("removal", b, &o); err != nil {
		return Removal{}, err
	}
	if err := catalog.ValidateID(o.Block); err != nil {
		return Removal{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return Removal{o.Block, o.Sources, o.Entries, time.UnixMilli(o.Time).UTC()}, nil
}
