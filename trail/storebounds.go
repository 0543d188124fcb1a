package trail

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// maxRead bounds the spans that a search of a [Store] returns. A story has at most half as
// many by default.
const maxRead = 2 * DefaultMaxSpans

// RecentIDs returns the ids of the newest traces, the newest first, up to a number. It
// reports whether there are more. Unlike [Store.Recent], it reads no spans.
func (s *Store) RecentIDs(traces int) (ids []string, more bool) {
	newest := s.recent(traces)
	return newest.ids(), newest.more
}

// FindIDs returns the ids of the traces of which [Store.Find] returns the spans, the newest
// first. It reports whether there are more.
func (s *Store) FindIDs(ctx context.Context, key, value string, traces int) (ids []string, more bool, err error) {
	found, err := s.find(ctx, key, value, traces)
	return found.ids(), found.more, err
}

// recent returns the newest traces, the newest first.
func (s *Store) recent(traces int) parts {
	more := false
	newest := s.choose(func() []*stored {
		more = len(s.byAge) > traces
		last := slices.Clone(s.byAge[max(0, len(s.byAge)-traces):])
		slices.Reverse(last)
		return last
	})
	newest.more = more
	return newest
}

func (p parts) ids() []string {
	ids := make([]string, len(p.parts))
	for i, t := range p.parts {
		ids[i] = hex.EncodeToString(t.id[:])
	}
	return ids
}

// bounded returns the first maxRead spans.
func (p parts) bounded() parts {
	left := maxRead
	for i := range p.parts {
		t := &p.parts[i]
		if len(t.spans) > left {
			p.more = true
			t.spans = earliest(t.spans, left)
		}
		left -= len(t.spans)
	}
	return p
}

// unpackAll decodes traces, up to maxRead spans.
func unpackAll(p parts) Spans {
	p = p.bounded()
	found := Spans{Truncated: p.more}
	for _, t := range p.parts {
		id := hex.EncodeToString(t.id[:])
		for _, packed := range t.spans {
			found.Spans = append(found.Spans, unpack(packed, id, p.words))
		}
	}
	return found
}

// earliest returns the packed spans that start first. These include the ancestors of each,
// and do not depend on the order in which spans arrived.
func earliest(spans [][]byte, n int) [][]byte {
	if n == 0 {
		return nil
	}
	start := func(packed []byte) int64 {
		at, _ := binary.Varint(packed[bodyAt(packed)+10:]) // behind the parent, the kind and the status
		return at
	}
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b []byte) int {
		return cmp.Or(cmp.Compare(start(a), start(b)), bytes.Compare(a[:filterAt], b[:filterAt]))
	})
	return spans[:n]
}
