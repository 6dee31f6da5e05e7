package engine

import (
	"context"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Need is what a query wants of the rows of a snapshot. It is immutable.
type Need struct {
	// Filters is a conjunction. Rows whose line does not match all of them are left
	// out, exactly: nobody looks at the others' lines again for it. Their operators
	// are |= != |~ !~, their alternatives never ip().
	Filters []*syntax.LineFilter
	// Any is what Filters do not say: of each list, a wanted line holds one string
	// at least. Rows whose lines do not may be left out, and need not.
	Any [][]string
	// Parsed is what wanted lines have as fields, in rows that have no metadata of a name.
	// Rows that do not may be left out, and need not.
	Parsed []FieldEquals
	// Values is what wanted rows have as metadata, sent or derived, or in their lines: the
	// value as it is or a backslash, behind which it may be written otherwise. Rows that have
	// neither may be left out, and need not.
	Values []MetaEquals
	// Metadata is what wanted rows have. Rows that cannot have it, neither in
	// Metadata nor in Derived, may be left out, and need not.
	Metadata []MetaEquals
	// Lines tells whether Rows.Lines, Meta whether Rows.Metadata and Rows.Derived are
	// looked at. If not, a snapshot may leave them out: then Lines.Ends is nil.
	Lines, Meta bool
	// Lengths tells that of lines nothing but how long they are is looked at: a snapshot may
	// give any bytes. It says nothing without Lines, or with Hashes.
	Lengths bool
	// Names are the names of metadata that are looked at; others may be left out. nil:
	// all are looked at.
	Names []string
	// Hashes tells that Rows.Hashes must be there if Lines are not.
	Hashes bool
}

// MetaEquals is a name of structured metadata and its value, which is not empty.
type MetaEquals struct {
	Name, Value string
}

// FieldEquals is a field of lines and its value, which is not empty.
type FieldEquals struct {
	// Fields tells what makes the label of the field: nothing that does not matter to
	// them does.
	Fields *Fields
	Name   string // of the field, which is at the top of the line
	Value  string
	// Unless is a name of metadata, sent or derived: nothing is said of rows that have it.
	Unless string
	// Any is which list of Need.Any says no more than this; -1: none.
	Any int
}

// Selective is a Snapshot that can make use of a Need.
type Selective interface {
	Snapshot
	// Select returns the rows of the snapshot that n wants, in the same streams by the
	// same numbers. It shares the snapshot, has no Close of its own that counts, and
	// may be called several times, before or while rows are read. ctx is the query's.
	Select(ctx context.Context, n *Need) Snapshot
}

// Skipper is a snapshot, as Select returns it, that knows what of it need not be read.
type Skipper interface {
	Snapshot
	// Skips returns in how many groups the rows of the snapshot are stored, and how many
	// of these are known to have none that is wanted.
	Skips() (groups, skipped int, err error)
}

// Examiner is a RowReader that leaves rows out and tells what it cost to know.
type Examiner interface {
	RowReader
	// Examined returns how many rows, and bytes of their lines, were decided upon so
	// far, those given out included. Where that was known without a look at their times it
	// may be about as many.
	Examined() (rows, bytes uint64)
}

// Sparing is a RowReader that reads more rows at a time the more are asked for.
type Sparing interface {
	RowReader
	// First says, before the first Next, that the caller may be content with n rows.
	First(n int)
}
