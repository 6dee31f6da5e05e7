package ring

import "slices"

// Split is the result of View.Split. The zero Split is ready; using one again
// reuses its memory, so what an earlier call returned is valid only until then.
type Split struct {
	// Targets are the members to write to, each with its streams.
	Targets []Target
	// Copies holds, for each token, the number of members that it goes to.
	// Below the view's Quorum the stream cannot be acknowledged.
	Copies []uint8

	positions []int32
	ends      []int32
	indexes   []uint32
}

// Target is one member and the indexes, ascending, of the tokens given to
// Split that it is a replica of.
type Target struct {
	Member *Member
	Index  []uint32
}

// Split finds the replicas of many streams at once, as Replicas does for one,
// and groups them by member. It fills s, whose members appear by name. It does
// not allocate per stream.
func (v *View) Split(tokens []uint64, s *Split) {
	l := v.layout
	s.Targets = s.Targets[:0]
	s.Copies = resize(s.Copies, len(tokens))
	clear(s.Copies)
	if l.width == 0 {
		return
	}

	s.positions = resize(s.positions, len(tokens))
	s.ends = resize(s.ends, len(v.members))
	clear(s.ends)
	for i, t := range tokens {
		row := l.position(t) * l.width
		s.positions[i] = int32(row)
		for _, m := range v.targets[row : row+l.width] {
			if m == none {
				break
			}
			s.ends[m]++
			s.Copies[i]++
		}
	}

	sum := int32(0)
	for m, n := range s.ends {
		s.ends[m] = sum // the member's start; its end once filled
		sum += n
	}
	s.indexes = resize(s.indexes, int(sum))
	for i, row := range s.positions {
		for _, m := range v.targets[row : int(row)+l.width] {
			if m == none {
				break
			}
			s.indexes[s.ends[m]] = uint32(i)
			s.ends[m]++
		}
	}

	start := int32(0)
	for m, end := range s.ends {
		if end > start {
			s.Targets = append(s.Targets, Target{Member: v.members[m], Index: s.indexes[start:end:end]})
		}
		start = end
	}
}

// resize returns a slice of length n, of unspecified content, in s's memory if
// it is large enough.
func resize[T any](s []T, n int) []T {
	return slices.Grow(s[:0], n)[:n]
}
