package blockstore

import (
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// Templates are of one class only if the fields that matter have the same text, with the same
// values of the same columns in it: not only of the same columns.
func TestClasses(t *testing.T) {
	const slot = "\x00"
	table := &template.Table{Columns: make([]template.Column, 3)}
	add := func(text string, columns ...uint32) {
		table.Templates = append(table.Templates, template.Template{Text: []byte(text), Columns: columns})
	}
	add("n="+slot+" x="+slot, 1, 1)
	add("n="+slot+" y="+slot+" z="+slot, 1, 2, 0) // as the first
	add("x="+slot+" n="+slot, 1, 1)               // the second value of the column
	add("n="+slot+" x="+slot, 2, 1)               // another column
	add("n=1"+slot+" x="+slot, 1, 1)              // other text
	k := newAnalyses(&block.Section{Section: &lines.Section{Table: table}}, &engine.Fields{Names: []string{"n"}})
	of := make([]*fieldClass, len(table.Templates))
	for i := range of {
		if of[i] = k.at(i).class; of[i] == nil {
			t.Fatalf("template %d has no class", i)
		}
	}
	if of[0] != of[1] {
		t.Error("fields that do not matter tell classes apart")
	}
	for i := 2; i < len(of); i++ {
		for j := range i {
			if of[i] == of[j] {
				t.Errorf("templates %d and %d are of one class", j, i)
			}
		}
	}
}
