package engine

import (
	"math/bits"
	"slices"
)

// maxSums is of how many classes of a piece sums are looked for.
const maxSums = 6

// withoutSums leaves out classes whose rows others have, too: replicas cut their blocks
// at different rows, so the runs at the end of one and at the beginning of the next add
// up to what another one has in one run, or in two of its own. Sums of digests that are
// equal are of the same rows. The fewer classes are kept, so that fewest rows are united.
func withoutSums(classes []group) []group {
	for len(classes) > 2 && len(classes) <= maxSums {
		drop := sumOfOthers(classes)
		if drop == 0 {
			break
		}
		kept := make([]group, 0, len(classes))
		for i, c := range classes {
			if drop>>i&1 == 0 {
				kept = append(kept, c)
			}
		}
		classes = kept
	}
	return classes
}

// sumOfOthers returns a set of classes that together have the rows of a set of others
// that is no larger; 0: there is none.
func sumOfOthers(classes []group) (drop uint) {
	sums := make([]Run, 1<<len(classes))
	sets := make([]uint, 0, len(sums))
	for set := uint(1); set < uint(len(sums)); set++ {
		i := bits.TrailingZeros(set)
		rest := set & (set - 1)
		sum := classes[i].Run
		sum.Bytes = 0 // says nothing about which rows there are
		if rest != 0 {
			sum = sum.plus(sums[rest], false)
		}
		sums[set] = sum
		if sum.Digest != 0 {
			sets = append(sets, set)
		}
	}
	slices.SortStableFunc(sets, func(a, b uint) int { return bits.OnesCount(a) - bits.OnesCount(b) })
	bySum := make(map[Run][]uint, len(sets))
	for _, set := range sets {
		for _, smaller := range bySum[sums[set]] {
			if smaller&set == 0 {
				return set
			}
		}
		bySum[sums[set]] = append(bySum[sums[set]], set)
	}
	return 0
}
