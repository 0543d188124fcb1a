package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/systemtest"
)

// Orders come faster than they can be handled. Each is taken, or told to come back
// later; no process needs more memory for it; and all that were taken are
// concluded.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	testBackPressure(t, 300)
}

// Here they are more than the shop can take.
func TestStressBackPressure(t *testing.T) {
	chaosplan.StressOnly(t)
	if refused := testBackPressure(t, 20_000); refused == 0 {
		t.Error("no order was refused: the test has shown nothing")
	}
}

const (
	// mostOpen is how many orders may be open after the flood: the bound that
	// services/orders keeps, 1000, and as many again for what is under way when it
	// is reached.
	mostOpen = 2000
	// mostMemory is what a process may have had resident at its peak, in MiB: about
	// three times what was measured on 2 cores, 55 to 75 for the NATS server, 44 for
	// orders and 24 for each of the others.
	mostMemory = 200
)

// testBackPressure places so many orders at once, and returns how many of them the
// shop refused.
func testBackPressure(t *testing.T, n int) (refused int) {
	t.Helper()
	server := startNATS(t)
	server.provision(t)
	var all []*process
	for _, name := range services {
		all = append(all, server.service(t, name))
	}
	for _, p := range all {
		p.ready(t)
	}
	url := all[0].url(t)
	js := server.jetStream(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	defer cancel()
	s, err := js.Stream(ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	answers := flood(url, n)
	flooded := time.Since(began)
	accepted := answers["202"]
	refused = answers["429"] + answers["503"]
	for answer, times := range answers {
		if !slices.Contains([]string{"202", "429", "503"}, answer) {
			t.Errorf("answered %d times: %s", times, answer)
		}
	}
	// Of what is answered with 503 because NATS took too long, nobody knows whether
	// it was stored.
	created := count(ctx, t, s, "orders.created.*")
	if created < accepted || created > accepted+answers["503"] {
		t.Errorf("%d orders are stored: %v", created, answers)
	}
	if open := created - count(ctx, t, s, "fulfillment.*.*"); open > mostOpen {
		t.Errorf("%d orders are open, %d may be", open, mostOpen)
	}

	concluded, before := -1, -1
	for ; concluded < created; before = concluded { // as long as it goes on
		systemtest.Until(t, fmt.Sprintf("%d orders are concluded, more than %d are", created, before), func() bool {
			concluded = count(ctx, t, s, "fulfillment.*.*")
			return concluded > before
		})
	}
	if concluded > created {
		t.Errorf("%d orders of %d are concluded", concluded, created)
	}
	t.Logf("%d orders in %.1f s: %v; %d concluded after %.1f s, %d of them cancelled", n, flooded.Seconds(), answers,
		concluded, time.Since(began).Seconds(), count(ctx, t, s, "fulfillment.cancelled.*"))
	for _, d := range app.Durables() {
		systemtest.Until(t, d.Name+" is done", func() bool {
			c, err := js.Consumer(ctx, d.Stream, d.Name)
			if err != nil {
				t.Fatal(err)
			}
			info := c.CachedInfo()
			return info.NumPending == 0 && info.NumAckPending == 0
		})
	}
	if _, err := demo.Play(ctx, demo.Shop{URL: url, Client: http.DefaultClient}, demo.Scenarios()[0]); err != nil {
		t.Errorf("an order after the flood: %v", err)
	}

	checkMemory(t, append(all, server.process))
	for _, p := range all {
		p.stop(t)
	}
	return refused
}

// flood posts orders over many connections, on each the next one as soon as there
// is an answer, whatever it is. It counts the answers: by status, and what should
// not be by what it says.
func flood(url string, n int) map[string]int {
	const connections = 256
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}, Timeout: patience}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	answers := map[string]int{}
	var next atomic.Int64
	var flooding sync.WaitGroup
	for range connections {
		flooding.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				token := "tok_ok"
				if i%10 == 0 {
					token = "tok_slow" // payments handles 32 at a time, in a second each
				}
				answer := post(client, url, token)
				mu.Lock()
				answers[answer]++
				mu.Unlock()
			}
		})
	}
	flooding.Wait()
	return answers
}

// post places an order. It returns the answer's status, or what is wrong with it.
func post(client *http.Client, url, token string) string {
	answer, err := client.Post(url+"/orders", "application/json", strings.NewReader(
		`{"customer":{"name":"Robin Example","email":"robin@example.com"},"items":[{"sku":"COMPASS","quantity":1}],`+
			`"payment":{"token":"`+token+`"},"shipping":{"address":"1 Trailhead Way"}}`))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err.Error()
	case answer.StatusCode != http.StatusAccepted && answer.Header.Get("Retry-After") == "":
		return fmt.Sprintf("%s without Retry-After: %s", answer.Status, got)
	}
	return fmt.Sprint(answer.StatusCode)
}

// checkMemory looks at what the processes had resident at their peak, where the
// system tells.
func checkMemory(t *testing.T, all []*process) {
	t.Helper()
	for _, p := range all {
		peak, err := peakMemory(p)
		if errors.Is(err, fs.ErrNotExist) {
			t.Logf("memory was not looked at: %v", err)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-11s %3d MiB", p.name, peak)
		if race := slices.Contains(buildFlags, "-race"); peak > mostMemory && !race { // the detector needs several times as much
			t.Errorf("%s had %d MiB resident, %d are allowed", p.name, peak, mostMemory)
		}
	}
}

// peakMemory is in MiB.
func peakMemory(p *process) (mib int, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, peak, _ := strings.Cut(string(status), "\nVmHWM:")
	var kib int
	if _, err := fmt.Sscanf(peak, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("VmHWM of %s: %w", p.name, err)
	}
	return kib >> 10, nil
}
