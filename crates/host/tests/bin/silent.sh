#!/bin/sh
# Stands for a program that does not answer.
exec sleep 600
