// Package gossip keeps a cluster's member table and tells who is healthy.
//
// A Node exchanges the table of package ring over hashicorp/memberlist: whole
// tables over TCP when two nodes synchronise, single records that changed in
// UDP packets. What memberlist itself knows is used for liveness only: its
// metadata is too small for a record and it forgets the dead, while a member
// of the table stays until it leaves or is forgotten. Liveness follows from
// what this process heard and when, never from another's clock.
//
// A process owns the record of its name. When it hears a record of that name
// that is newer than its own, it asserts itself over it with a greater version
// (ring.Table.Assert); an ingester whose data directory was forgotten does not,
// and is told through Forgotten.
//
// # Stopping and leaving
//
// Stop is what a restart does: the others see at once that the member is away,
// and it keeps its place. Leave makes it a tombstone. Members that store
// nothing have no place to keep, so for them Stop includes Leave, and their
// tombstones are dropped after a day; one that vanished without a word is
// forgotten after a day.
//
// Static is the same thing for a process that is alone.
package gossip
