package trail_test

import (
	"bytes"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"example.org/ordertrail/test/backends"
	"example.org/ordertrail/trail"
)

// FuzzFile reads anything as a file: nothing panics, and what was read can be searched.
func FuzzFile(f *testing.F) {
	line, err := new(ptrace.JSONMarshaler).MarshalTraces(backends.OTLP(linked(3)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append(line, '\n'), line...))
	f.Add([]byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"` + linked(1)[0].TraceID + `","spanId":"0000000000000001","attributes":[{"key":"a","value":{"kvlistValue":{"values":[{"key":"b","value":{"doubleValue":"NaN"}}]}}}]}]}]}]}`))
	f.Add([]byte("\x1f\x8b\x08nonsense"))
	f.Fuzz(func(t *testing.T, text []byte) {
		store, err := trail.ReadFile(bytes.NewReader(text))
		if err != nil {
			return
		}
		found, err := store.Recent(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range found.Spans {
			for key := range s.Attributes {
				again, err := store.Find(t.Context(), key, s.Attributes.Text(key), 1000)
				if err != nil || len(again.Spans) == 0 {
					t.Errorf("%q=%q is not found: %v", key, s.Attributes.Text(key), err)
				}
			}
			linking, err := store.Linking(t.Context(), s.TraceID)
			if err != nil || len(linking.Spans) > store.Size().Spans {
				t.Errorf("%d spans link: %v", len(linking.Spans), err)
			}
		}
	})
}
