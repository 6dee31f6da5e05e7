package entry

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/model"
)

// Sets have the same key if and only if they have the same labels.
func TestKey(t *testing.T) {
	label := rapid.StringOfN(rapid.RuneFrom([]rune("a=\"\x00\x01\x80é")), 0, 3, -1)
	set := rapid.Custom(func(t *rapid.T) *Set {
		return SetOf(rapid.MapOfN(label, label, 0, 3).Draw(t, "labels"))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := set.Draw(t, "a"), set.Draw(t, "b")
		if (a.Key() == b.Key()) != a.Labels().Equal(b.Labels()) {
			t.Fatalf("%v and %v", a, b)
		}
		if a.Key() != string(AppendKey(nil, a.Labels())) {
			t.Fatal("AppendKey differs")
		}
	})
	var none *Set
	if none.Key() != SetOf(nil).Key() || len(none.Labels()) != 0 {
		t.Error("nil is not the empty set")
	}
}

func TestBytes(t *testing.T) {
	e := Entry{Line: []byte("abc"), Metadata: []model.Label{{Name: "k", Value: "vv"}}}
	if e.Bytes() != 6 {
		t.Errorf("%d bytes", e.Bytes())
	}
}
