// Package engine runs LogQL queries. It plans a query, opens the sources that may
// hold rows, unites them, and merges what they answer.
//
// A Store holds raw rows. Local makes a Source of it, which runs pipelines and
// partial aggregates where the rows are; package remote carries the same Source
// over gRPC. The engine works on sources only, so an ingester's head, a block and
// a replica are all one thing to it.
//
// Union makes one source of several, such as the blocks of a store. A snapshot that is
// Selective gets told what a query needs of rows (see Need), so that it can leave out
// rows, lines and metadata. One that is Indexed answers questions about all its
// streams without a list of them (see Counter, FieldCounter and Pruner). What deletes and retention took away is left out by
// whoever reads a store, see Excluded.
//
// Log entries have a total order: by time, then by the labels of their stream as
// stored, then by batch time, position and hash. Backward is exactly the reverse.
// Limits, paging cursors and the merging of sources follow it.
//
// Results are typed (see Result); the answer's form on the wire is the business of
// doors. Errors are of one of the kinds ErrUser, ErrUnsupported, ErrLimit,
// ErrPipeline and ErrIncomplete, or a *syntax.ParseError of a stage that does not
// compile, or the context's; all but the last have texts for users.
//
// Sources may hold copies of each other's rows. Per stream, runs that are equal
// count once, runs whose times do not touch are used as they are, and only what
// overlaps and differs is united row by row, by time, hash and bytes. Sources of which
// no two have rows of the same time are not even listed: they follow each other.
// Where some overlap and others do not, aggregations cut them (see Clipper): only in the
// times of those that overlap streams are listed and united.
package engine
