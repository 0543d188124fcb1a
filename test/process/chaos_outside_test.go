package process

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"strconv"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/payments"
)

// The simulated gateway and carrier of the real binaries keep no books. Here payments
// and fulfillment run in the test's own binary, as processes: the same services, wired
// to a world outside that lives in the test's process. An effect there remains, whatever
// happens to the process that asked for it.

// Environment of the test's binary when it is such a service.
const (
	outsideService = "OUTSIDE_SERVICE"
	outsideAddress = "OUTSIDE_ADDRESS"
	outsideReplica = "OUTSIDE_REPLICA"
)

// startOutside starts a service that uses the test's world.
func (c *chaos) startOutside(r *replica) *process {
	c.t.Helper()
	p := start(c.t, append(as(r.service),
		"NATS_URL="+c.nats.url, "HEALTH_ADDR=127.0.0.1:0",
		outsideService+"="+r.service, outsideAddress+"="+c.outside, outsideReplica+"="+strconv.Itoa(r.number),
	), outsideService)
	p.name = r.service
	return p
}

// serveOutside is the main function of such a service.
func serveOutside(name string) {
	service.Main(service.Definition{Name: name, Wire: func(rt *service.Runtime) (service.Part, error) {
		world, err := rpc.Dial("tcp", os.Getenv(outsideAddress))
		if err != nil {
			return service.Part{}, err
		}
		replica, err := strconv.Atoi(os.Getenv(outsideReplica))
		if err != nil {
			return service.Part{}, err
		}
		o := outside{world, replica}
		if name == payments.Name {
			return payments.New(rt, o), nil
		}
		return fulfillment.New(rt, o), nil
	}})
}

// Demand is a request for an effect. net/rpc requires that it is exported.
type Demand struct {
	Replica int
	Effect  string
	Charge  payments.Charge // of the other effects only its Key
	Address string
}

// outside is the card gateway and the carrier, by RPC.
type outside struct {
	world   *rpc.Client
	replica int
}

func (o outside) Charge(_ context.Context, c payments.Charge) (string, error) {
	return o.call(Demand{Effect: "charge", Charge: c})
}

func (o outside) Refund(_ context.Context, key string) error {
	_, err := o.call(Demand{Effect: "refund", Charge: payments.Charge{Key: key}})
	return err
}

func (o outside) Book(_ context.Context, key, address string) (string, error) {
	return o.call(Demand{Effect: "book", Charge: payments.Charge{Key: key}, Address: address})
}

func (o outside) Cancel(_ context.Context, key string) error {
	_, err := o.call(Demand{Effect: "unbook", Charge: payments.Charge{Key: key}})
	return err
}

// refusals are errors that the services tell from others.
var refusals = []error{payments.ErrDeclined, fulfillment.ErrRefused}

func (o outside) call(d Demand) (id string, err error) {
	d.Replica = o.replica
	err = o.world.Call("World.Do", d, &id)
	for _, refusal := range refusals {
		if err != nil && err.Error() == refusal.Error() {
			return "", refusal
		}
	}
	return id, err
}

// serveWorld serves the world until the test ends.
func (c *chaos) serveWorld() {
	server := rpc.NewServer()
	if err := server.RegisterName("World", world{c}); err != nil {
		c.t.Fatal(err)
	}
	l := listen(c.t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go server.ServeConn(conn)
		}
	}()
	c.outside = l.Addr().String()
}

type world struct{ chaos *chaos }

// Do has an effect. It does not answer a replica that a fault kills meanwhile.
func (w world) Do(d Demand, id *string) (err error) {
	c, ctx := w.chaos, context.Background()
	r, err := c.replica(d.Replica)
	if err != nil {
		return err
	}
	if !c.effect(r, d.Effect, d.Charge.Key, func() {
		switch d.Effect {
		case "charge":
			*id, err = c.world.Charge(ctx, d.Charge)
		case "refund":
			err = c.world.Refund(ctx, d.Charge.Key)
		case "book":
			*id, err = c.world.Book(ctx, d.Charge.Key, d.Address)
		case "unbook":
			err = c.world.Cancel(ctx, d.Charge.Key)
		}
	}) {
		<-r.exited
	}
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return refusal
		}
	}
	return err
}

func (c *chaos) replica(number int) (*replica, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number < 1 || number > len(c.fleet) {
		return nil, fmt.Errorf("no replica %d", number)
	}
	return c.fleet[number-1], nil
}
