package trail

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Ref names a span: trace id (32 hex digits) and span id (16).
type Ref struct {
	TraceID string `json:"trace_id"`
	SpanID  string `json:"span_id"`
}

// valid reports whether both ids are there. A consumer's span may have a link without ids, to
// a message without context: all such links look alike.
func (r Ref) valid() bool {
	return strings.Trim(r.TraceID, "0") != "" && strings.Trim(r.SpanID, "0") != ""
}

func compareRefs(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.TraceID, b.TraceID), cmp.Compare(a.SpanID, b.SpanID))
}

// Span is a span as its source returns it. The spans of a [Story] have no Links:
// the story's edges contain them.
type Span struct {
	Ref
	ParentID string `json:"parent_span_id,omitempty"` // "" for a root span

	Service string    `json:"service"`
	Name    string    `json:"name"`
	Kind    string    `json:"kind"` // internal, server, client, producer or consumer
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`

	Status        string     `json:"status"` // unset, ok or error
	StatusMessage string     `json:"status_message,omitempty"`
	Attributes    Attributes `json:"attributes,omitempty"`
	Events        []Moment   `json:"events,omitempty"`
	Links         []Link     `json:"-"`

	DroppedLinks int `json:"dropped_links,omitempty"`
}

// Statuses of a span.
const (
	StatusUnset = "unset"
	StatusOK    = "ok"
	StatusError = "error"
)

// Moment is an event of a span, such as an exception.
type Moment struct {
	Name       string     `json:"name"`
	Time       time.Time  `json:"time"`
	Attributes Attributes `json:"attributes,omitempty"`
}

// Link is a span's link to another span.
type Link struct {
	Ref
	Attributes Attributes
}

// Attributes belong to a span, an event or a link. A value is a string, a bool, an
// int64 or a float64; a list is a string of JSON. Read from JSON, whole numbers are int64.
type Attributes map[string]any

// UnmarshalJSON reads attributes. A whole number that fits becomes an int64, without a loss.
func (a *Attributes) UnmarshalJSON(text []byte) error {
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	var read map[string]any
	if err := in.Decode(&read); err != nil {
		return err
	}
	for key, value := range read {
		n, ok := value.(json.Number)
		if !ok {
			continue
		}
		if whole, err := n.Int64(); err == nil {
			read[key] = whole
		} else if read[key], err = n.Float64(); err != nil {
			return err
		}
	}
	*a = read
	return nil
}

// Text returns an attribute as text, "" if it is missing.
func (a Attributes) Text(key string) string {
	switch v := a[key].(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return ""
}

// number returns an attribute as a number, 0 if it is missing.
func (a Attributes) number(key string) int {
	switch v := a[key].(type) {
	case int64:
		return int(v)
	case float64:
		return int(v)
	}
	return 0
}

// serviceNameKey is the attribute of a resource that becomes [Span.Service].
const serviceNameKey = "service.name"

// values returns the values of an attribute that a span has: its own, else those of
// its links.
func (s *Span) values(key string) []string {
	if v := s.Attributes.Text(key); v != "" {
		return []string{v}
	}
	var values []string
	for _, l := range s.Links {
		if v := l.Attributes.Text(key); v != "" {
			values = append(values, v)
		}
	}
	return values
}
