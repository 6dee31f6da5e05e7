package match

import "testing"

// What a panic left half done is not taken for an answer: the needle would be nowhere.
func TestPanicIsNoAnswer(t *testing.T) {
	n := &sectionNeedle{}
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("it is ready: %v", n.how)
				}
			}()
			n.prepare(nil)
		}()
	}
}
