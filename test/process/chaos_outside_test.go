package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/payments"
)

// The simulated gateway and carrier of the real binaries keep nothing that could be
// audited. Here payments and fulfillment are the test's own binary, run once more:
// the same services, wired to a world outside that is in the test's process. What
// that process has done is done, whatever becomes of the caller.

// Environment of the test's binary when it is such a service.
const (
	outsideService = "OUTSIDE_SERVICE"
	outsideURL     = "OUTSIDE_URL"
	outsideReplica = "OUTSIDE_REPLICA"
)

// ourselves puts the test's binary beside the others, and returns its name there.
var ourselves = sync.OnceValues(func() (name string, err error) {
	path, err := os.Executable()
	if err == nil {
		err = build()
	}
	if err != nil {
		return "", err
	}
	const link = "outside"
	return link, os.Symlink(path, filepath.Join(binaries, link))
})

// startOutside starts a service that deals with the test's world.
func (c *chaos) startOutside(r *replica) *process {
	c.t.Helper()
	name, err := ourselves()
	if err != nil {
		c.t.Fatal(err)
	}
	p := start(c.t, append(as(r.service),
		"NATS_URL="+c.nats.url, "HEALTH_ADDR=127.0.0.1:0",
		outsideService+"="+r.service, outsideURL+"="+c.outside, outsideReplica+"="+strconv.Itoa(r.number),
	), name)
	p.name = r.service
	return p
}

// serveOutside is the service that the environment names.
func serveOutside(name string) {
	o := outside{url: os.Getenv(outsideURL), replica: os.Getenv(outsideReplica)}
	service.Main(service.Definition{Name: name, Wire: func(rt *service.Runtime) (service.Part, error) {
		switch name {
		case payments.Name:
			return payments.New(rt, o), nil
		case fulfillment.Name:
			return fulfillment.New(rt, carrier{o}), nil
		}
		return service.Part{}, fmt.Errorf("no %s deals with the test's world", name)
	}})
}

// demand is what is asked of the world outside.
type demand struct {
	payments.Charge // of the others only its Key
	Address         string
}

// outside is the card gateway, by HTTP.
type outside struct{ url, replica string }

func (o outside) Charge(ctx context.Context, c payments.Charge) (string, error) {
	return o.call(ctx, "charge", demand{Charge: c})
}

func (o outside) Refund(ctx context.Context, key string) error {
	_, err := o.call(ctx, "refund", demand{Charge: payments.Charge{Key: key}})
	return err
}

// carrier is the carrier.
type carrier struct{ outside }

func (c carrier) Book(ctx context.Context, key, address string) (string, error) {
	return c.call(ctx, "book", demand{Charge: payments.Charge{Key: key}, Address: address})
}

func (c carrier) Cancel(ctx context.Context, key string) error {
	_, err := c.call(ctx, "unbook", demand{Charge: payments.Charge{Key: key}})
	return err
}

// Answers that are the other side's considered refusal.
var refusals = map[int]error{
	http.StatusPaymentRequired:     payments.ErrDeclined,
	http.StatusUnprocessableEntity: fulfillment.ErrRefused,
}

const replicaHeader = "Replica"

func (o outside) call(ctx context.Context, effect string, d demand) (id string, err error) {
	body, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+"/"+effect, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set(replicaHeader, o.replica)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if refusal, ok := refusals[answer.StatusCode]; ok {
		return "", refusal
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", effect, answer.Status)
	}
	return string(got), nil
}

// ServeHTTP is that world, as the services call it.
func (c *chaos) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var d demand
	if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	effect := r.URL.Path[1:]
	var id string
	var err error
	if !c.effect(c.replica(r.Header.Get(replicaHeader)), effect, d.Key, func() {
		switch effect {
		case "charge":
			id, err = c.world.Charge(r.Context(), d.Charge)
		case "refund":
			err = c.world.Refund(r.Context(), d.Key)
		case "book":
			id, err = c.world.Book(r.Context(), d.Key, d.Address)
		case "unbook":
			err = c.world.Cancel(r.Context(), d.Key)
		}
	}) {
		panic(http.ErrAbortHandler) // the caller is dead
	}
	for status, refusal := range refusals {
		if errors.Is(err, refusal) {
			w.WriteHeader(status)
			return
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, id) // who does not wait for it asks again
}

// replica finds the one of that number.
func (c *chaos) replica(number string) *replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.fleet {
		if strconv.Itoa(r.number) == number {
			return r
		}
	}
	panic("an effect of no known replica")
}
