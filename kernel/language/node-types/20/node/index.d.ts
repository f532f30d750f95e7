/// <reference types="@types/node" />
