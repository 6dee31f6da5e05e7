package engine

// maxDistinct is how many combinations of values a scan knows; rows of others are all
// given out.
const maxDistinct = 16 << 10

// maxDistinctBytes bounds what they take.
const maxDistinctBytes = 1 << 20

// distinctRows knows which values labels of rows had. It only saves work.
type distinctRows struct {
	sets   []bool // label sets whose values are known
	values map[string]struct{}
	bytes  int
	key    []byte
}

// seen reports whether a row before had the values that the labels of this one have.
func (d *distinctRows) seen(set uint32, labels *RowLabels, names []string) bool {
	for int(set) >= len(d.sets) {
		d.sets = append(d.sets, false)
	}
	if d.sets[set] {
		return true
	}
	d.key, _ = labels.appendValues(d.key[:0], names)
	if _, known := d.values[string(d.key)]; known {
		d.sets[set] = true
		return true
	}
	if len(d.values) >= maxDistinct || d.bytes+len(d.key) > maxDistinctBytes {
		return false
	}
	if d.values == nil {
		d.values = map[string]struct{}{}
	}
	d.values[string(d.key)], d.sets[set] = struct{}{}, true
	d.bytes += len(d.key)
	return false
}
