package main

import (
	"context"
	"errors"
	"fmt"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/analytics"
)

// replay has a service's state made anew from the stream. Only analytics can be
// replayed: what the others do has effects outside.
func replay(ctx context.Context, args []string) error {
	if len(args) != 1 || args[0] != analytics.Name {
		return errors.New("replay: want analytics, the one service without effects outside, as in: go run . replay analytics")
	}
	return administer(ctx, analytics.Name, operator, func(ctx context.Context, rt *service.Runtime) error {
		result, err := analytics.Replay(ctx, rt)
		if err == nil {
			fmt.Println(result)
		}
		return err
	})
}
