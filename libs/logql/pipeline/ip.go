package pipeline

import (
	"fmt"
	"net/netip"
	"strings"
)

// ipMatcher finds addresses in text and tests whether one lies between two
// addresses of one family.
type ipMatcher struct{ from, to netip.Addr }

// newIPMatcher takes an address, a CIDR (host bits allowed) or a range a-b.
func newIPMatcher(pattern string) (ipMatcher, error) {
	bad := fmt.Errorf("ip: invalid pattern: %q", pattern)
	if a, b, ok := strings.Cut(pattern, "-"); ok {
		from, err1 := netip.ParseAddr(strings.TrimSpace(a))
		to, err2 := netip.ParseAddr(strings.TrimSpace(b))
		if err1 != nil || err2 != nil || from.Is4() != to.Is4() || to.Less(from) || from.Zone() != "" || to.Zone() != "" {
			return ipMatcher{}, bad
		}
		return ipMatcher{from, to}, nil
	}
	if strings.Contains(pattern, "/") {
		p, err := netip.ParsePrefix(pattern)
		if err != nil {
			return ipMatcher{}, bad
		}
		p = p.Masked()
		last := p.Addr().AsSlice()
		for i := p.Bits(); i < 8*len(last); i++ {
			last[i/8] |= 0x80 >> (i % 8)
		}
		to, _ := netip.AddrFromSlice(last)
		return ipMatcher{p.Addr(), to}, nil
	}
	a, err := netip.ParseAddr(pattern)
	if err != nil || a.Zone() != "" {
		return ipMatcher{}, bad
	}
	return ipMatcher{a, a}, nil
}

func (m ipMatcher) contains(a netip.Addr) bool {
	return a.Is4() == m.from.Is4() && !a.Less(m.from) && !m.to.Less(a)
}

const (
	ipDecimal = 1 << iota
	ipHex
	ipV4 // digits and dots
	ipV6 // hexadecimal digits, colons, dots
)

var ipClass = func() (t [256]uint8) {
	for c := byte('0'); c <= '9'; c++ {
		t[c] = ipDecimal | ipHex | ipV4 | ipV6
	}
	for _, c := range []byte("abcdefABCDEF") {
		t[c] = ipHex | ipV6
	}
	t['.'] = ipV4 | ipV6
	t[':'] = ipV6
	return t
}()

// match reports whether text has an address in the range. Candidates are runs: of
// digits and dots that start with a digit and have a dot among the next three
// bytes; of what IPv6 addresses are made of, that start with :: or at most four
// hexadecimal digits and a colon. A run that is no address is skipped whole.
func (m ipMatcher) match(text []byte) bool {
	for i := 0; i < len(text); i++ {
		c := ipClass[text[i]]
		if c == 0 {
			continue
		}
		var kind uint8
		switch {
		case c&ipDecimal != 0 && dotSoon(text[i+1:]):
			kind = ipV4
		case v6Start(text[i:]):
			kind = ipV6
		default:
			continue
		}
		end := i + 1
		for end < len(text) && ipClass[text[end]]&kind != 0 {
			end++
		}
		// The longest address has 45 characters (an IPv4 address in IPv6).
		if end-i <= 45 {
			if a, err := netip.ParseAddr(str(text[i:end])); err == nil && m.contains(a) {
				return true
			}
		}
		i = end
	}
	return false
}

func dotSoon(b []byte) bool {
	for i := 0; i < len(b) && i < 3; i++ {
		if b[i] == '.' {
			return true
		}
	}
	return false
}

func v6Start(b []byte) bool {
	if b[0] == ':' {
		return len(b) > 2 && b[1] == ':' && ipClass[b[2]]&ipHex != 0
	}
	for i := 0; i < len(b) && i < 5; i++ {
		if b[i] == ':' {
			return i > 0
		}
		if ipClass[b[i]]&ipHex == 0 {
			return false
		}
	}
	return false
}
