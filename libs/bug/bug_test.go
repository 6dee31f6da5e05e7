package bug

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestCaught(t *testing.T) {
	var told []any
	tell := func(value any, stack []byte) {
		if told = append(told, value); !strings.Contains(string(stack), "bug_test.go") {
			t.Errorf("the stack is of elsewhere: %s", stack)
		}
	}
	if err := Caught(func() error { return io.EOF }, tell); err != io.EOF || told != nil {
		t.Error(err, told)
	}
	if err := Caught(func() error { panic("a bug") }, tell); !errors.Is(err, ErrPanic) || len(told) != 1 || told[0] != "a bug" {
		t.Error(err, told)
	}
}
