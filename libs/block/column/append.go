package column

// AppendAll appends values from … to-1 to slab, and where each of them ends in it to ends.
func (v *Values) AppendAll(slab []byte, ends []uint32, from, to int) ([]byte, []uint32) {
	if v.kind != Bytes || v.ends == nil || from == to {
		for i := from; i < to; i++ {
			slab = v.Append(slab, i)
			ends = append(ends, uint32(len(slab)))
		}
		return slab, ends
	}
	begin := uint32(0)
	if from > 0 {
		begin = v.ends[from-1]
	}
	shift := uint32(len(slab)) - begin
	slab = append(slab, v.bytes[begin:v.ends[to-1]]...)
	for _, end := range v.ends[from:to] {
		ends = append(ends, end+shift)
	}
	return slab, ends
}
