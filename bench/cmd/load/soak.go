package main

func soak(s *settings) (func() (any, error), error) { return nil, nil }
