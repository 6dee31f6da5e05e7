package compact

// BytesBefore returns what a source of streams says of how many bytes of lines come before
// some runs, each given by its stream and its place among those of the stream.
func BytesBefore(streams []Stream, ask [][2]int) (out []uint64) {
	s := &BlockSource{streams: streams, groups: []uint64{0}}
	sum := uint64(0)
	for _, st := range streams {
		s.before = append(s.before, sum)
		for _, r := range st.Runs {
			sum += r.Bytes
		}
	}
	for _, a := range ask {
		out = append(out, s.bytesBefore(a[0], streams[a[0]].Runs[a[1]]))
	}
	return out
}
