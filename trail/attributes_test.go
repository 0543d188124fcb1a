package trail_test

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"example.org/ordertrail/trail"
)

// Attributes are the same after a way through JSON.
func TestAttributesJSON(t *testing.T) {
	want := trail.Attributes{
		"large": int64(1234567890123456789), "least": int64(math.MinInt64), "round": int64(10_000_000), "zero": int64(0),
		"ratio": 0.1, "huge": 1e30, "text": "12", "yes": true,
	}
	var got trail.Node
	text, err := json.Marshal(trail.Node{Span: trail.Span{Attributes: want, Events: []trail.Moment{{Attributes: want}}}})
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil || !reflect.DeepEqual(got.Attributes, want) || !reflect.DeepEqual(got.Events[0].Attributes, want) {
		t.Errorf("%v, want %v: %v", got.Attributes, want, err)
	}
	var none struct{ Attributes trail.Attributes }
	if err := json.Unmarshal([]byte(`{"attributes":null}`), &none); err != nil || none.Attributes != nil {
		t.Errorf("null: %v, %v", none.Attributes, err)
	}
	if err := json.Unmarshal([]byte(`{"attributes":1}`), &none); err == nil {
		t.Error("a number is taken for attributes")
	}
}
