package distributor

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/model/rowspb"
	"github.com/weir-logs/weir/libs/ring"
)

// refusal is why a row or stream is refused.
type refusal struct {
	reason  pushv1.RejectReason
	message string
}

// rejects collects what of one stream is refused, rows that follow each other for
// one reason as one item.
type rejects struct {
	items []rejected
	rows  int
}

// join adds what is refused of rows that begin at from.
func (r *rejects) join(o rejects, from int) {
	for _, it := range o.items {
		it.row += from
		r.items = append(r.items, it)
	}
	r.rows += o.rows
}

type rejected struct {
	row, count int
	refusal
}

func (r *rejects) add(row int, why refusal) {
	r.rows++
	if n := len(r.items); n > 0 {
		last := &r.items[n-1]
		if last.reason == why.reason && last.row+last.count == row {
			last.count++
			return
		}
	}
	r.items = append(r.items, rejected{row, 1, why})
}

// checker validates rows against a tenant's limits at one moment.
type checker struct {
	limits limits.Limits
	now    int64 // nanoseconds since the Unix epoch
	stamp  bool
	stamps int64 // the time that the request's first row gets if it has none
	gone   gone
	noted  uint64 // the generation of the tenant's active streams
	seed   ring.TokenSeed
	space  *space
}

// space is memory for what is made of a request's streams: where there are very many, each
// has few rows. It is used again for other requests.
type space struct {
	left    int // streams of the request that are not done yet
	blocks  rowspb.Blocks
	ends    model.Pages[uint32]
	bytes   model.Pages[byte]
	columns model.Pages[model.Column]
	parts   [1]part
	users   atomic.Int32 // the write, and requests to ingesters that are not answered
}

// maxSpace is the most streams, rows and columns for which space is kept.
const maxSpace = 1 << 14

// spaces keeps space that is free. It may be used by several goroutines.
type spaces struct{ pool sync.Pool }

// take returns space with one user.
func (p *spaces) take() *space {
	sp, ok := p.pool.Get().(*space)
	if !ok {
		sp = &space{}
	}
	sp.users.Store(1)
	return sp
}

// leave says that a user of space is done with it. Without the last one's word it is not used
// again: whoever may still look at a request does not give it.
func (p *spaces) leave(sp *space) {
	if sp.users.Add(-1) > 0 {
		return
	}
	sp.parts = [1]part{}
	if max(sp.blocks.Reuse(), sp.ends.Reuse(), sp.bytes.Reuse()/8, sp.columns.Reuse()) <= maxSpace {
		p.pool.Put(sp)
	}
}

// narrow is narrow to as many columns as a block may have. The result is valid until the
// next call.
func (sp *space) narrow(r *model.Rows) []part {
	if len(r.Metadata) <= maxColumns {
		sp.parts[0] = part{*r, 0}
		return sp.parts[:]
	}
	return narrow(r, maxColumns)
}

func (c *checker) oldest() int64 { return c.now - int64(c.limits.MaxAge) }

// rows checks the rows of a stream and fills in missing times; position is the
// first row's place in the request. It returns what is refused, and how many of the
// others had no time.
func (c *checker) rows(stream string, r *model.Rows, position uint32) (rej rejects, stamped int) {
	oldest, newest := c.oldest(), c.now+int64(c.limits.MaxFuture)
	maxLine := int(c.limits.MaxLineSize)
	own := false // Times is not the request's
	for i := range r.Times {
		untimed, refused := r.Times[i] == 0 && c.stamp, rej.rows
		if untimed {
			if !own { // the sender has the request's
				r.Times, own = slices.Clone(r.Times), true
			}
			// The position keeps stamped rows of one request apart and in order.
			r.Times[i] = c.stamps + int64(position) + int64(i)
		}
		t := r.Times[i]
		n := len(r.Lines.At(i))
		switch {
		case t < oldest:
			rej.add(i, refusal{pushv1.RejectReason_REJECT_REASON_TOO_OLD, fmt.Sprintf(
				"entry for stream '%s' has timestamp too old: %s, oldest acceptable timestamp is: %s", stream, timeText(t), timeText(oldest))})
		case t > newest:
			rej.add(i, refusal{pushv1.RejectReason_REJECT_REASON_TOO_FAR_IN_FUTURE, fmt.Sprintf(
				"entry for stream '%s' has timestamp too new: %s", stream, timeText(t))})
		case n > maxLine:
			rej.add(i, refusal{pushv1.RejectReason_REJECT_REASON_LINE_TOO_LONG, fmt.Sprintf(
				"max entry size '%d' bytes exceeded for stream '%s' while adding an entry with length '%d' bytes", maxLine, stream, n)})
		default:
			if why, bad := c.metadata(stream, r, i); bad {
				rej.add(i, why)
			}
		}
		if untimed && rej.rows == refused {
			stamped++
		}
	}
	return rej, stamped
}

func (c *checker) metadata(stream string, r *model.Rows, i int) (refusal, bool) {
	if len(r.Metadata) == 0 {
		return refusal{}, false
	}
	pairs, size := 0, 0
	for k := range r.Metadata {
		col := &r.Metadata[k]
		v := col.At(i)
		if len(v) == 0 {
			continue
		}
		pairs++
		size += len(col.Name) + len(v)
		if !utf8.Valid(v) {
			return refusal{pushv1.RejectReason_REJECT_REASON_INVALID_STRUCTURED_METADATA, fmt.Sprintf(
				"stream '%s' has structured metadata '%s' whose value is not valid UTF-8", stream, col.Name)}, true
		}
	}
	if size > int(c.limits.MaxMetadataSize) {
		return refusal{pushv1.RejectReason_REJECT_REASON_STRUCTURED_METADATA_TOO_LARGE, fmt.Sprintf(
			"stream '%s' has structured metadata too large: '%d' bytes, limit: '%d' bytes", stream, size, int64(c.limits.MaxMetadataSize))}, true
	}
	if pairs > c.limits.MaxMetadataPairs {
		return refusal{pushv1.RejectReason_REJECT_REASON_STRUCTURED_METADATA_TOO_MANY, fmt.Sprintf(
			"stream '%s' has too many structured metadata labels: '%d', limit: '%d'", stream, pairs, c.limits.MaxMetadataPairs)}, true
	}
	return refusal{}, false
}

func timeText(t int64) string {
	if t == math.MinInt64 {
		return time.Time{}.Format(time.RFC3339)
	}
	return time.Unix(0, t).UTC().Format(time.RFC3339)
}

// streamLabels checks a label set. A service's name that was derived does not count
// towards the limit.
func streamLabels(c *canonical, l limits.Limits) (refusal, bool) {
	ls, n := c.labels, len(c.labels)
	if c.found {
		n--
	}
	if n > l.MaxLabelNames {
		return refusal{pushv1.RejectReason_REJECT_REASON_TOO_MANY_LABELS, fmt.Sprintf(
			"entry for stream '%s' has %d label names; limit %d", ls, n, l.MaxLabelNames)}, true
	}
	if int(c.longestName) <= l.MaxLabelNameLength && int(c.longestValue) <= l.MaxLabelValueLength {
		return refusal{}, false
	}
	for _, p := range ls {
		if len(p.Name) > l.MaxLabelNameLength {
			return refusal{pushv1.RejectReason_REJECT_REASON_LABEL_NAME_TOO_LONG, fmt.Sprintf(
				"stream '%s' has label name too long: '%s'", ls, p.Name)}, true
		}
		if len(p.Value) > l.MaxLabelValueLength {
			return refusal{pushv1.RejectReason_REJECT_REASON_LABEL_VALUE_TOO_LONG, fmt.Sprintf(
				"stream '%s' has label value too long: '%s'", ls, p.Value)}, true
		}
	}
	return refusal{}, false
}

// without returns the rows that rej does not name, with their positions.
func without(r *model.Rows, rej *rejects) model.Rows {
	out := model.Rows{}
	next := 0
	for i := range r.Times {
		for next < len(rej.items) && i >= rej.items[next].row+rej.items[next].count {
			next++
		}
		if next < len(rej.items) && i >= rej.items[next].row {
			continue
		}
		n := out.Len()
		out.Times = append(out.Times, r.Times[i])
		out.Lines.Append(r.Lines.At(i))
		if r.Copies != nil {
			out.Copies = append(out.Copies, r.Copies[i])
		}
		pos := uint32(i)
		if r.Positions != nil {
			pos = r.Positions[i]
		}
		out.Positions = append(out.Positions, pos)
		out.Metadata = keep(out.Metadata, r.Metadata, i, n)
	}
	for k := range out.Metadata {
		out.Metadata[k].Finish(out.Len())
	}
	return out
}

// keep appends row i of src to dst as row n.
func keep(dst, src []model.Column, i, n int) []model.Column {
	if dst == nil && len(src) > 0 {
		dst = make([]model.Column, len(src))
		for k := range src {
			dst[k] = model.Column{Name: src[k].Name, Version: src[k].Version}
		}
	}
	for k := range src {
		if v := src[k].At(i); len(v) > 0 {
			dst[k].Append(n, v)
		}
	}
	return dst
}
