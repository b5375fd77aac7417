package netpol

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func span(first, last string) addressRange {
	return addressRange{netip.MustParseAddr(first), netip.MustParseAddr(last)}
}

func TestNewAddressSetMergesWhatOverlapsOrTouches(t *testing.T) {
	got := newAddressSet([]addressRange{
		span("10.0.0.5", "10.0.0.9"), span("::1", "::1"), span("10.0.0.1", "10.0.0.4"), span("10.0.0.2", "10.0.0.3"),
		span("10.0.0.11", "10.0.0.11"), span("255.255.255.255", "255.255.255.255"), span("::", "::"),
	}).expression()
	if want := "{ 10.0.0.1-10.0.0.9, 10.0.0.11, 255.255.255.255, ::-::1 }"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestWithoutCutsHolesAtEveryEdge(t *testing.T) {
	for _, c := range []struct{ cidr, want string }{
		{"10.0.0.0/29", "{ 10.0.0.0-10.0.0.7 }"},
		{"0.0.0.0/0", "{ 0.0.0.0-255.255.255.255 }"},
		{"::/0", "{ ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff }"},
		{"10.0.0.5/29", "{ 10.0.0.0-10.0.0.7 }"},
	} {
		if got := newAddressSet([]addressRange{rangeOf(netip.MustParsePrefix(c.cidr))}).expression(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.cidr, got, c.want)
		}
	}
	// Every combination of holes in a small range, against counting.
	random := rand.New(rand.NewPCG(seed(t), 0))
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, byte(240 + i)}) }
	for range 2000 {
		whole := addressRange{at(random.IntN(8)), at(8 + random.IntN(8))} // may end at 255.255.255.255
		var holes []addressRange
		for range random.IntN(4) {
			first := random.IntN(16)
			holes = append(holes, addressRange{at(first), at(first + random.IntN(16-first))})
		}
		holes = append(holes, span("::", "::ffff"))
		left := newAddressSet(whole.without(newAddressSet(holes)))
		for i := range 16 {
			want := addressSet{whole}.contains(at(i)) && !newAddressSet(holes).contains(at(i))
			if left.contains(at(i)) != want {
				t.Fatalf("%v without %v is %v: wrong at %s", whole, holes, left, at(i))
			}
		}
	}
}
