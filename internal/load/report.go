package load

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"example.org/ordertrail/trail"
)

// Times between two reports of the progress.
const (
	barEvery  = 200 * time.Millisecond // on a terminal
	lineEvery = 3 * time.Second        // elsewhere
)

// barWidth is the number of columns of the bar.
const barWidth = 16

// showProgress prints the progress of the run until stop is called, which removes the bar
// from a terminal.
func (l *load) showProgress(out io.Writer, terminal bool) (stop func()) {
	every := lineEvery
	if terminal {
		every = barEvery
	}
	done := make(chan struct{})
	var printing sync.WaitGroup
	printing.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		explained := false
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if first := l.firstFailure.Load(); first != nil && !explained {
				explained = true
				fmt.Fprintf(out, "%sfirst failure: %v\n", clearLine(terminal), *first)
			}
			if terminal {
				fmt.Fprint(out, clearLine(terminal)+l.bar()+l.progress())
			} else {
				fmt.Fprintln(out, l.progress())
			}
		}
	})
	return func() {
		close(done)
		printing.Wait()
		fmt.Fprint(out, clearLine(terminal))
	}
}

// clearLine returns the characters that clear the line of a terminal.
func clearLine(terminal bool) string {
	if terminal {
		return "\r\x1b[K"
	}
	return ""
}

// progress returns how far the run is, in less than 80 columns with the bar for up to 100,000 orders.
func (l *load) progress() string {
	return fmt.Sprintf("%d of %d ended, %d placed, %d failed, %.0f s",
		l.ended.Load(), len(l.orders), l.placed.Load(), l.failed.Load(), time.Since(l.start).Seconds())
}

func (l *load) bar() string {
	full := int(l.ended.Load()+l.failed.Load()) * barWidth / len(l.orders)
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] "
}

// report prints the failures, then the numbers of the orders that ended as they should.
// It returns an error unless all did.
func (l *load) report(out io.Writer, interrupted bool) error {
	all := time.Since(l.start)
	var took []time.Duration
	var failed []error
	open := 0
	for _, one := range l.orders {
		switch {
		case one.err != nil:
			failed = append(failed, one.err)
		case one.ended:
			took = append(took, one.took)
		case one.id != "":
			open++
		}
	}
	if len(failed) == len(l.orders) {
		return fmt.Errorf("load: all %d orders failed, the first: %w", len(failed), failed[0])
	}
	fmt.Fprintf(out, "%d of %s failed\n", len(failed), trail.Counted(len(l.orders), "order"))
	if interrupted {
		verbs := "were placed and have"
		if open == 1 {
			verbs = "was placed and has"
		}
		fmt.Fprintf(out, "interrupted: %s %s not ended yet\n", trail.Counted(open, "order"), verbs)
	}
	if len(took) > 0 {
		slices.Sort(took)
		fmt.Fprintf(out, "%s in %.1f s: %.0f orders/s\n", trail.Counted(len(took), "order"), all.Seconds(), float64(len(took))/all.Seconds())
		fmt.Fprintf(out, "request to parcel: p50 %s, p99 %s\n", trail.Duration(took[len(took)/2]), trail.Duration(took[len(took)*99/100]))
	}
	fmt.Fprintf(out, "%s repeated\n", trail.Counted(int(l.retries.Load()), "request"))
	var errs []error
	if interrupted {
		errs = append(errs, fmt.Errorf("load: interrupted after %d of %s", len(took), trail.Counted(len(l.orders), "order")))
	}
	if len(failed) > 0 {
		errs = append(errs, fmt.Errorf("load: %d of %s failed, the first: %w", len(failed), trail.Counted(len(l.orders), "order"), failed[0]))
	}
	return errors.Join(errs...)
}
