package ring

import "github.com/cespare/xxhash/v2"

// TokensPerMember is the number of points that each ingester owns on the ring.
// It is part of the placement that all processes of a cluster must share.
const TokensPerMember = 512

// golden is 2^64 divided by the golden ratio, the usual step of a Weyl
// sequence: its multiples never fall close to each other.
const golden = 0x9e3779b97f4a7c15

// Token returns the place on the ring of a stream, given its tenant and the
// fingerprint of its labels. It is the same in every process and version.
func Token(tenant string, fingerprint uint64) uint64 {
	return Seed(tenant).Token(fingerprint)
}

// TokenSeed is what the tokens of a tenant's streams have in common.
type TokenSeed uint64

// Seed returns the seed of a tenant.
func Seed(tenant string) TokenSeed { return TokenSeed(xxhash.Sum64String(tenant)) }

// Token is [Token] for the seed's tenant.
func (s TokenSeed) Token(fingerprint uint64) uint64 { return mix(uint64(s) ^ mix(fingerprint+golden)) }

// AppendTokens appends the TokensPerMember ring tokens of the member called
// name to dst, unsorted, and returns it. They depend on nothing but the name
// and are the same in every process and version.
func AppendTokens(dst []uint64, name string) []uint64 {
	seed := xxhash.Sum64String(name)
	for i := range uint64(TokensPerMember) {
		dst = append(dst, mix(seed+(i+1)*golden))
	}
	return dst
}

// mix is a bijection of uint64 whose output bits each depend on every input
// bit (the finaliser of splitmix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
