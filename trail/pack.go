package trail

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// packer encodes spans as bytes. They take a fifth of the memory of a [Span], contain no
// pointers that the garbage collector must follow, and their size is known.
//
// Words that repeat (names, keys, and values without digits) are encoded as the number
// of their first use. A text that ends like the long text before it, as the name of a
// queue or the id of a message often do, is encoded without that end.
type packer struct {
	seed    maphash.Seed
	known   map[string]uint64
	ordered []string // by number; only ever appended to
	last    string   // the long text before, in the same span
	buffer  []byte
}

// Bounds of the words, and of the ends that are left out.
const (
	maxWords   = 4096
	maxWordLen = 64
	minTail    = 8
)

func newPacker() packer { return packer{seed: maphash.MakeSeed(), known: map[string]uint64{}} }

// A packed span begins with the span's id and a Bloom filter of its attributes, and of
// those of its links, with three bits for each. A search reads the filter first.
const (
	filterAt   = 8 // its size in bits, as a power of two; then the bits
	minFilter  = 7
	maxFilter  = 20
	filterStep = 20 // bits of a hash for one bit of the filter
)

// hash returns the hash of an attribute.
func (p *packer) hash(key, value string) uint64 {
	var h maphash.Hash
	h.SetSeed(p.seed)
	_, _ = h.WriteString(key)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(value)
	return h.Sum64()
}

// filter calls f with the bytes and bits of a packed span's filter that belong to a hash,
// until f returns false.
func filter(packed []byte, hash uint64, f func(b *byte, bit byte) bool) bool {
	mask := uint64(1)<<packed[filterAt] - 1
	for range 3 {
		at := hash & mask
		if !f(&packed[filterAt+1+at/8], 1<<(at%8)) {
			return false
		}
		hash >>= filterStep
	}
	return true
}

// note adds an attribute to the filter of a packed span.
func (p *packer) note(packed []byte, key, value string) {
	filter(packed, p.hash(key, value), func(b *byte, bit byte) bool { *b |= bit; return true })
}

// mayHave reports whether a packed span may have the attribute with this hash.
func mayHave(packed []byte, hash uint64) bool {
	return filter(packed, hash, func(b *byte, bit byte) bool { return *b&bit != 0 })
}

// bodyAt returns where a packed span continues behind the filter.
func bodyAt(packed []byte) int { return filterAt + 1 + 1<<packed[filterAt]/8 }

var (
	kinds    = []string{"internal", "server", "client", "producer", "consumer"}
	statuses = []string{StatusUnset, StatusError, StatusOK}
)

// Types of a value.
const (
	packedString = iota
	packedFalse
	packedTrue
	packedInt
	packedFloat
)

// pack encodes a span without its trace id.
func (p *packer) pack(s *Span, id, parent [8]byte, links []linkID) []byte {
	p.last = ""
	attributes := 1 + len(s.Attributes) // searches find the service as an attribute
	for _, l := range s.Links {
		attributes += len(l.Attributes)
	}
	size := min(max(minFilter, bits.Len(uint(8*attributes))), maxFilter) // #nosec G115 -- not negative
	b := append(append(p.buffer[:0], id[:]...), byte(size))              // #nosec G115 -- it is small
	b = append(b, make([]byte, 1<<size/8)...)
	p.note(b, serviceNameKey, s.Service)
	b = append(b, parent[:]...)
	b = append(b, byte(max(0, slices.Index(kinds, s.Kind))), byte(max(0, slices.Index(statuses, s.Status)))) // #nosec G115 -- both are small
	b = binary.AppendVarint(b, s.Start.UnixNano())
	b = binary.AppendVarint(b, int64(s.End.Sub(s.Start)))
	b = p.text(b, s.Service)
	b = p.text(b, s.Name)
	b = p.text(b, s.StatusMessage)
	b = p.attributes(b, s.Attributes, true)
	b = binary.AppendUvarint(b, uint64(len(s.Events)))
	for _, e := range s.Events {
		b = p.text(b, e.Name)
		b = binary.AppendVarint(b, e.Time.UnixNano())
		b = p.attributes(b, e.Attributes, false)
	}
	b = binary.AppendUvarint(b, uint64(max(0, s.DroppedLinks))) // #nosec G115 -- not negative
	b = binary.AppendUvarint(b, uint64(len(s.Links)))
	for i, l := range s.Links {
		b = append(append(b, links[i].trace[:]...), links[i].span[:]...)
		b = p.attributes(b, l.Attributes, true)
	}
	p.buffer = b
	return bytes.Clone(b)
}

// attributes encodes the attributes of a span, an event or a link.
func (p *packer) attributes(b []byte, as Attributes, found bool) []byte {
	b = binary.AppendUvarint(b, uint64(len(as)))
	for key, value := range as {
		b = p.text(b, key)
		if found {
			p.note(b, key, as.Text(key))
		}
		switch v := value.(type) {
		case bool:
			if v {
				b = append(b, packedTrue)
			} else {
				b = append(b, packedFalse)
			}
		case int64:
			b = binary.AppendVarint(append(b, packedInt), v)
		case float64:
			b = binary.BigEndian.AppendUint64(append(b, packedFloat), math.Float64bits(v))
		default:
			b = p.text(append(b, packedString), as.Text(key))
		}
	}
	return b
}

// text encodes a word as 4*number+1, any other text as 4*length and the text. A text that
// ends like the long one before it is 4*length+2, its beginning, and the length of the end.
func (p *packer) text(b []byte, s string) []byte {
	n, known := p.known[s]
	if !known && len(p.ordered) < maxWords && len(s) <= maxWordLen && !strings.ContainsAny(s, "0123456789") {
		n, known = uint64(len(p.ordered)), true
		s = strings.Clone(s)
		p.known[s] = n
		p.ordered = append(p.ordered, s)
	}
	if known {
		return binary.AppendUvarint(b, n<<2|1)
	}
	tail := 0
	for tail < len(s) && tail < len(p.last) && s[len(s)-1-tail] == p.last[len(p.last)-1-tail] {
		tail++
	}
	if tail < minTail {
		if len(s) >= 2*minTail {
			p.last = s
		}
		return append(binary.AppendUvarint(b, uint64(len(s))<<2), s...)
	}
	head := s[:len(s)-tail]
	b = append(binary.AppendUvarint(b, uint64(len(head))<<2|2), head...)
	return binary.AppendUvarint(b, uint64(tail)) // #nosec G115 -- not negative
}

// unpack decodes a span that pack encoded.
func unpack(b []byte, traceID string, words []string) Span {
	u := unpacker{b: b[bodyAt(b):], words: words}
	s := Span{Ref: Ref{TraceID: traceID, SpanID: hex.EncodeToString(b[:filterAt])}, ParentID: u.hex(8)}
	if s.ParentID == noSpanID {
		s.ParentID = ""
	}
	s.Kind, s.Status = kinds[u.byte()], statuses[u.byte()]
	s.Start = time.Unix(0, u.int()).UTC()
	s.End = s.Start.Add(time.Duration(u.int()))
	s.Service, s.Name, s.StatusMessage = u.text(), u.text(), u.text()
	s.Attributes = u.attributes()
	for range u.uint() {
		s.Events = append(s.Events, Moment{u.text(), time.Unix(0, u.int()).UTC(), u.attributes()})
	}
	s.DroppedLinks = int(u.uint()) // #nosec G115 -- it was an int
	if n := u.uint(); n > 0 {
		s.Links = make([]Link, n)
		for i := range s.Links {
			s.Links[i] = Link{Ref{u.hex(16), u.hex(8)}, u.attributes()}
		}
	}
	return s
}

// unpacker reads from the start of b. pack encoded it, so it is never too short.
type unpacker struct {
	b     []byte
	words []string
	last  string
}

func (u *unpacker) take(n int) []byte {
	taken := u.b[:n]
	u.b = u.b[n:]
	return taken
}

func (u *unpacker) byte() byte       { return u.take(1)[0] }
func (u *unpacker) hex(n int) string { return hex.EncodeToString(u.take(n)) }

func (u *unpacker) int() int64 {
	v, n := binary.Varint(u.b)
	u.take(n)
	return v
}

func (u *unpacker) uint() uint64 {
	v, n := binary.Uvarint(u.b)
	u.take(n)
	return v
}

func (u *unpacker) text() string {
	n := u.uint()
	if n&1 == 1 {
		return u.words[n>>2]
	}
	s := string(u.take(int(n >> 2))) // #nosec G115 -- it was an int
	if n&2 == 2 {
		tail := int(u.uint()) // #nosec G115 -- it was an int
		return s + u.last[len(u.last)-tail:]
	}
	if len(s) >= 2*minTail {
		u.last = s
	}
	return s
}

func (u *unpacker) attributes() Attributes {
	n := u.uint()
	if n == 0 {
		return nil
	}
	as := make(Attributes, n)
	for range n {
		key := u.text()
		switch u.byte() {
		case packedString:
			as[key] = u.text()
		case packedFalse:
			as[key] = false
		case packedTrue:
			as[key] = true
		case packedInt:
			as[key] = u.int()
		case packedFloat:
			as[key] = math.Float64frombits(binary.BigEndian.Uint64(u.take(8)))
		}
	}
	return as
}
