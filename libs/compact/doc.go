// Package compact decides which blocks are merged, merges them, and says what
// retention removes. It is pure: blocks come and go through small interfaces, and
// time is an argument.
//
// A merge is set union: entries that several blocks hold are one entry in the
// result, and what deletes and retention take is left out. Each merge proves
// itself before anything is stored: per stream, the rows of its sources are the
// rows of its results, the copies that it dropped and the rows that it removed, by
// count and by digest.
package compact
