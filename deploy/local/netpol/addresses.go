package netpol

import (
	"net/netip"
	"slices"
	"strings"
)

type addressRange struct{ first, last netip.Addr }

// addressSet is sorted, without overlaps or touching ranges: the form in which
// nft takes interval sets and in which equal sets are equal texts.
type addressSet []addressRange

func newAddressSet(ranges []addressRange) addressSet {
	slices.SortFunc(ranges, func(a, b addressRange) int { return a.first.Compare(b.first) })
	var set addressSet
	for _, r := range ranges {
		if n := len(set); n > 0 && set[n-1].last.BitLen() == r.first.BitLen() &&
			(r.first.Compare(set[n-1].last) <= 0 || r.first == set[n-1].last.Next()) {
			if r.last.Compare(set[n-1].last) > 0 {
				set[n-1].last = r.last
			}
			continue
		}
		set = append(set, r)
	}
	return set
}

func (s addressSet) contains(a netip.Addr) bool {
	return slices.ContainsFunc(s, func(r addressRange) bool {
		return r.first.BitLen() == a.BitLen() && r.first.Compare(a) <= 0 && a.Compare(r.last) <= 0
	})
}

func (s addressSet) family(v4 bool) addressSet {
	var out addressSet
	for _, r := range s {
		if r.first.Is4() == v4 {
			out = append(out, r)
		}
	}
	return out
}

// expression is the set as nft writes it: { 10.0.0.1, 10.1.0.0-10.1.0.255 }.
func (s addressSet) expression() string {
	parts := make([]string, len(s))
	for i, r := range s {
		parts[i] = r.first.String()
		if r.last != r.first {
			parts[i] += "-" + r.last.String()
		}
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

func rangeOf(p netip.Prefix) addressRange {
	last := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	end, _ := netip.AddrFromSlice(last)
	return addressRange{p.Masked().Addr(), end}
}

// without cuts holes out of r.
func (r addressRange) without(holes addressSet) []addressRange {
	var out []addressRange
	next := r.first
	for _, hole := range holes.family(r.first.Is4()) {
		if hole.last.Compare(next) < 0 || hole.first.Compare(r.last) > 0 {
			continue
		}
		if next.Compare(hole.first) < 0 {
			out = append(out, addressRange{next, hole.first.Prev()})
		}
		if next = hole.last.Next(); !next.IsValid() || next.Compare(r.last) > 0 {
			return out
		}
	}
	return append(out, addressRange{next, r.last})
}
