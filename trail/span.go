package trail

import (
	"strconv"
	"time"
)

// Span is a span as a source has it. Those of a [Trail] have no Links: they are
// among its edges.
type Span struct {
	Ref
	ParentID string `json:"parent_span_id,omitempty"` // "" for a root

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

// Moment is an event of a span: a panic, a message that is still in progress.
type Moment struct {
	Name       string     `json:"name"`
	Time       time.Time  `json:"time"`
	Attributes Attributes `json:"attributes,omitempty"`
}

// Link is a span's link to another.
type Link struct {
	Ref
	Attributes Attributes
}

// Attributes are a span's, or a link's. A value is a string, a bool, an int64 or a
// float64; a list is a string of JSON.
type Attributes map[string]any

// Text returns an attribute as text, "" if it is not there.
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

// Int returns an attribute that is a number, 0 if it is not there.
func (a Attributes) Int(key string) int {
	n, _ := a[key].(int64)
	return int(n)
}
