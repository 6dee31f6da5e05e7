package patterns

// shape is lines that differ only in words with digits: once it is known which of these
// vary, lines need not be cut to be counted.
type shape struct {
	cluster *cluster // nil: they belong to no pattern
	words   []uint64 // hashes of the words with digits of the lines so far; 0: it varies
}

// maxShapes is how many a Set remembers.
const maxShapes = 10_000

type shapeKey struct {
	treeKey
	hash uint64
}

// wordByte tells the bytes of which words consist.
var wordByte = func() (is [256]bool) {
	for c := range is {
		is[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == ':' || c == '/' || c >= 0x80
	}
	return is
}()

// skeleton hashes a line without its words that have digits, whose hashes it appends.
func skeleton(words []uint64, line string) (uint64, []uint64) {
	const start, prime = 14695981039346656037, 1099511628211
	h := uint64(start)
	for i := 0; i < len(line); {
		c := line[i]
		if !wordByte[c] {
			h = (h ^ uint64(c)) * prime
			i++
			continue
		}
		w, digits := uint64(start), false
		for ; i < len(line) && wordByte[line[i]]; i++ {
			c = line[i]
			w = (w ^ uint64(c)) * prime
			digits = digits || c-'0' <= 9
		}
		if digits {
			words = append(words, w|1)
			h = (h ^ 256) * prime
		} else {
			h = (h ^ w) * prime
		}
		h ^= h >> 29
	}
	return h, words
}

// known reports whether a line of words is as those before: nothing that did not vary
// before does now.
func (s *shape) known(words []uint64) bool {
	if s.cluster != nil && s.cluster.gone || len(words) != len(s.words) {
		return false
	}
	for i, w := range s.words {
		if w != 0 && w != words[i] {
			return false
		}
	}
	return true
}

// learn notes that a line of words belongs to a cluster.
func (s *Set) learn(k shapeKey, c *cluster, words []uint64) {
	if sh := s.shapes[k]; sh != nil && sh.cluster == c && len(sh.words) == len(words) {
		for i := range words {
			if sh.words[i] != words[i] {
				sh.words[i] = 0
			}
		}
		return
	}
	if len(s.shapes) >= maxShapes {
		clear(s.shapes)
	}
	s.shapes[k] = &shape{c, append([]uint64(nil), words...)}
}
