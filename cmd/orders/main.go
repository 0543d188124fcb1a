// Command orders runs the orders service against the NATS server at NATS_URL.
package main

import (
	"ordertrail/internal/service"
	"ordertrail/services/orders"
)

func main() { service.Main(orders.Name, orders.DefaultHTTPAddr, orders.Wire) }
