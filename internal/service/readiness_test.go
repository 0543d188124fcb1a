package service

import (
	"errors"
	"testing"
	"time"
)

// A check that began earlier and ends later does not replace the result of a newer one.
func TestReadinessOfOldCheck(t *testing.T) {
	t.Parallel()
	var changes []bool
	r := readiness{changed: func(err error) { changes = append(changes, err == nil) }}
	began := time.Now()
	r.set(began.Add(time.Second), nil)
	r.set(began, errors.New("not ready"))
	if r.err != nil || len(changes) > 0 {
		t.Errorf("the state is %v after the changes %v", r.err, changes)
	}
	r.set(began.Add(2*time.Second), errors.New("not ready"))
	r.set(began.Add(3*time.Second), nil)
	if len(changes) != 2 || changes[0] || !changes[1] {
		t.Errorf("the changes were %v, want one to not ready and one to ready", changes)
	}
}
