// Package ring decides which ingesters store a stream.
//
// It is pure: values go in, values come out; there is no clock, no I/O and no
// goroutine. Package gossip is the shell that carries the values between
// processes.
//
// # From members to replicas
//
// A Table holds one record per member name. Tables merge like sets: the newer
// record of a name wins, whatever the order and number of the exchanges, so
// every process that has heard the same records has the same table, told by
// its Digest.
//
// A View is an immutable snapshot made of a Table, the caller's opinion of who
// is healthy, and a Config. Each ingester that is active or leaving owns
// TokensPerMember points on a circle of 2^64 tokens. The points follow from the
// member's name alone and are never exchanged. The owners of a token are the
// first ReplicationFactor distinct members met clockwise from it, in distinct
// zones while there are enough of them.
//
// # Writes
//
// Owners do not depend on health. A write goes to the owners that are active
// and healthy; any other is replaced by the next healthy member of its zone
// among the position's next members, of which there are as many as the zone
// has owners there. There is no further step: if they are unhealthy too, the
// write goes on with those left. If these are fewer than Quorum, members that are
// active but not heard of take the free places, the owner before its next members:
// gossip may be away rather than they, and their acknowledgements decide. So
// whatever two distributors believe about health, a stream is found only at its
// Holders.
//
// # Reads
//
// The Holders of a token are its owners and these next members. An acknowledged
// entry is on at least Quorum of them, so a token range is complete when fewer
// than Quorum of its holders are missing. The quorum follows from the
// configured replication factor, never from the number of members seen.
//
// When one ingester joins a ring whose zones stay the same and are at most
// ReplicationFactor in number, the owners of before are holders afterwards.
package ring
