package engine

import (
	"unsafe"

	"github.com/weir-logs/weir/libs/model"
)

// listing is the streams of a session, by their numbers, which ascend by labels. What it
// returns is shared, or made in a buffer that it is given; nil: in one of its own.
type listing interface {
	len() int
	labels(buf *model.Labels, stream int) model.Labels
	runs(buf *[]Run, stream int) []Run
	// makes reports whether what it returns is made: it takes memory then.
	makes() bool
}

// listed is a listing of streams that are there.
type listed []Stream

func (l listed) len() int                                   { return len(l) }
func (l listed) labels(_ *model.Labels, i int) model.Labels { return l[i].Labels }
func (l listed) runs(_ *[]Run, i int) []Run                 { return l[i].Runs }
func (l listed) makes() bool                                { return false }

// index is a listing of streams that are looked up one by one: many sessions may have the
// same ones, and lists of them all would take more than the plan.
type index struct {
	of Indexed
	n  int
}

func (x index) len() int    { return x.n }
func (x index) makes() bool { return true }

func (x index) labels(buf *model.Labels, i int) model.Labels {
	if buf == nil {
		return x.of.Labels(i)
	}
	*buf = x.of.AppendLabels((*buf)[:0], i)
	return *buf
}

func (x index) runs(buf *[]Run, i int) []Run {
	if buf == nil {
		return x.of.AppendRuns(nil, i)
	}
	*buf = x.of.AppendRuns((*buf)[:0], i)
	return *buf
}

// listingOf returns the streams of a session.
func (u *united) listingOf(session int) listing {
	s := u.sessions[session]
	if l, ok := wholeOf(s).(*localSession); ok && l.indexed != nil && !l.listed {
		return index{l.indexed, l.indexed.Extent().Streams}
	}
	return listed(u.listed(session))
}

// listSize is the bytes that a list of streams takes, but for the text of labels, which
// lists share with what they are of.
func listSize(list []Stream) int {
	n := int(unsafe.Sizeof(Stream{})) * len(list)
	for i := range list {
		n += labelsSize(list[i].Labels) + runSize*len(list[i].Runs)
	}
	return n
}

func labelsSize(ls model.Labels) int { return int(unsafe.Sizeof(model.Label{})) * len(ls) }
